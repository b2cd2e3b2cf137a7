"""The part of an account's equity that one symbol may use."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TypeVar

Number = TypeVar("Number", float, Decimal)


def allotted(equity: Number, allocation: float | None) -> Number:
    """What of the equity counts for a symbol, quote units; of losses all or its share.

    Args:
      equity: of the account; one that is not finite comes back as it is, for the reader to refuse.
      allocation: None = everything, a fraction in (0, 1], or an amount of quote units above 1.
    """
    if allocation is None or not math.isfinite(equity):
        return equity
    share = type(equity)(repr(float(allocation)))
    return equity * share if allocation <= 1 else min(equity, share)


def check_allocation(allocation: float | None) -> None:
    """Refuse what is neither a fraction nor an amount.

    Raises:
      ValueError: it is not a finite number above 0.
    """
    if allocation is not None and not (math.isfinite(allocation) and allocation > 0):
        raise ValueError(
            "allocation: must be None, a fraction in (0, 1] or an amount above 1; "
            f"got {allocation}."
        )

"""Names of symbols: one canonical form, ``BASE/QUOTE:SETTLE`` for a perpetual, and back.

Every spelling a user may write is normalised here, once per venue.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable

_SETTLE = "USDT"
_SWAP = re.compile(r"(?P<base>[0-9A-Z]{1,20})(/USDT(:USDT)?|USDT)")


def usdt_perpetual(spelling: str) -> str:
    """The canonical name of a perpetual that is quoted and settled in USDT.

    ``BTCUSDT``, ``BTC/USDT`` and ``BTC/USDT:USDT`` are one symbol, in any case.

    Raises:
      ValueError: the spelling is none of these.
    """
    match = _SWAP.fullmatch(spelling.strip().upper())
    if match is None:
        raise ValueError(
            f"symbol {spelling!r}: expected a perpetual in USDT, written BTCUSDT, BTC/USDT or "
            "BTC/USDT:USDT."
        )
    return f"{match['base']}/{_SETTLE}:{_SETTLE}"


def joined(spelling: str) -> str:
    """The same symbol as venues without separators write it: ``BTCUSDT``."""
    return usdt_perpetual(spelling).split("/", 1)[0] + _SETTLE


def among(spelling: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that a spelling means; None = none of them."""
    names = {spelling}
    with contextlib.suppress(ValueError):  # no spelling of a venue stands for itself
        names.add(usdt_perpetual(spelling))
    return next((name for name in known if name in names), None)

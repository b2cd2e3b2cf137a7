"""A simulated account on disk: what a paper account has to remember between two processes.

Every symbol has a file of its own, written whole. A change concerns one symbol and the cash that
all of them share: the file that was written last has the cash that counts.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from jaxtrade.files import atomic_write
from live.replay.account import SimulatedAccount
from live.types import Fill, OrderReport, OrderStatus, Role, Side

VERSION = 2


class PaperFileError(ValueError):
    """The file of a paper account cannot be used; its name and the remedy are in the text."""


@dataclasses.dataclass(frozen=True, slots=True)
class Left:
    """What an earlier process left of a symbol.

    Attributes:
      written: number of the write, over all symbols. cash: free, of all symbols, quote units.
      symbol: canonical name. held: whether there is a position.
    """

    written: int
    cash: float
    symbol: str
    held: bool


def save(path: Path, account: SimulatedAccount, passed_ms: int | None, written: int = 0) -> None:
    """Put one symbol of the account where `load` finds it, whole or not at all.

    Args:
      passed_ms: START of the newest bar that has acted on it; None = none has.
      written: see `Left`.

    Raises:
      OSError: the folder cannot be written.
    """
    state = account.state()
    body = {
        "version": VERSION,
        "written": written,
        "symbol": account.instrument.symbol,
        "step": str(state["step"]),
        "passed_ms": passed_ms,
        "leverage": account.terms.leverage,
        "money": state["money"],
        "run": state["run"],
        "number": state["number"],
        "legs": state["legs"],
        "reports": [_plain(report) for report in state["reports"]],
        "fills": [_plain(fill) for fill in state["fills"]],
    }
    with atomic_write(path) as stream:
        stream.write(json.dumps(body).encode())


def left(folder: Path) -> list[Left]:
    """What earlier processes left in a folder, in the order it was written.

    Raises:
      PaperFileError: a file is no paper account of this version.
    """
    found = []
    for path in sorted(folder.glob(path_of(folder, "*").name)):
        try:
            body = _body(path)
            one = Left(
                int(body["written"]),
                float(body["money"]["cash"]),
                str(body["symbol"]),
                bool(body["money"]["quantity"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise _unusable(path, error) from None
        found.append(one)
    return sorted(found, key=lambda one: one.written)


def path_of(folder: Path, venue_symbol: str) -> Path:
    """Where a symbol is kept."""
    return folder / f"paper-{venue_symbol}.json"


def load(path: Path, account: SimulatedAccount) -> int | None:
    """Give the account what `save` kept; the START of the newest bar that has acted on it.

    A file that is not there leaves the account as it is.

    Raises:
      PaperFileError: the file is no paper account of this version, or was left with a position
        at another leverage.
    """
    if not path.exists():
        return None
    try:
        body = _body(path)
        account.resume(
            {
                "money": body["money"],
                "step": Decimal(body["step"]),
                "run": int(body["run"]),
                "number": int(body["number"]),
                "legs": {Role(role): name for role, name in body["legs"].items()},
                "reports": [_report(row) for row in body["reports"]],
                "fills": [
                    Fill.of_text(row, int(row["venue_time_ms"]), _role(row["role"]))
                    for row in body["fills"]
                ],
            }
        )
        if body["money"]["quantity"] and body["leverage"] != account.terms.leverage:
            raise ValueError(f"holds a position at leverage {body['leverage']:g}")
        passed: int | None = body["passed_ms"]
    except (ValueError, KeyError, TypeError, ArithmeticError) as error:
        raise _unusable(path, error) from None
    return passed


def _body(path: Path) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if body["version"] != VERSION:
        raise ValueError(f"version {body['version']}")
    return body


def _unusable(path: Path, why: object) -> PaperFileError:
    return PaperFileError(
        f"{path}: is no paper account that can be resumed ({why}); move every such file away "
        "together with the journal beside it, and the account starts anew."
    )


def _plain(row: OrderReport | Fill) -> dict[str, Any]:
    return {
        field.name: str(value) if isinstance(value, Decimal) else value
        for field in dataclasses.fields(row)
        for value in [getattr(row, field.name)]
    }


def _report(row: Mapping[str, Any]) -> OrderReport:
    return OrderReport(
        client_id=row["client_id"],
        venue_order_id=row["venue_order_id"],
        role=_role(row["role"]),
        side=Side(row["side"]),
        quantity=Decimal(row["quantity"]),
        filled=Decimal(row["filled"]),
        average_price=_maybe(row["average_price"]),
        trigger_price=_maybe(row["trigger_price"]),
        reduce_only=bool(row["reduce_only"]),
        status=OrderStatus(row["status"]),
        venue_time_ms=int(row["venue_time_ms"]),
    )


def _role(value: str | None) -> Role | None:
    return None if value is None else Role(value)


def _maybe(value: str | None) -> Decimal | None:
    return None if value is None else Decimal(value)

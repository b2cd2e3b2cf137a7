"""A simulated account on disk: what a paper account has to remember between two processes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from jaxtrade.files import atomic_write
from live.replay.account import SimulatedAccount
from live.types import Fill, FillKind, OrderReport, OrderStatus, Role, Side

VERSION = 1


class PaperFileError(ValueError):
    """The file of a paper account cannot be used; its name and the remedy are in the text."""


def save(path: Path, account: SimulatedAccount, passed_ms: int | None) -> None:
    """Put the account where `load` finds it, whole or not at all.

    Args:
      passed_ms: START of the newest bar that has acted on it; None = none has.

    Raises:
      OSError: the folder cannot be written.
    """
    state = account.state()
    body = {
        "version": VERSION,
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


def load(path: Path, account: SimulatedAccount) -> int | None:
    """Give the account what `save` kept; the START of the newest bar that has acted on it.

    A file that is not there leaves the account as it is.

    Raises:
      PaperFileError: the file is no paper account of this version, or was left with a position
        at another leverage.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        body = json.loads(text)
        if body["version"] != VERSION:
            raise ValueError(f"version {body['version']}")
        account.resume(
            {
                "money": body["money"],
                "run": int(body["run"]),
                "number": int(body["number"]),
                "legs": {Role(role): name for role, name in body["legs"].items()},
                "reports": [_report(row) for row in body["reports"]],
                "fills": [_fill(row) for row in body["fills"]],
            }
        )
        if body["money"]["quantity"] and body["leverage"] != account.terms.leverage:
            raise ValueError(f"holds a position at leverage {body['leverage']:g}")
        passed: int | None = body["passed_ms"]
    except (ValueError, KeyError, TypeError, ArithmeticError) as error:
        raise PaperFileError(
            f"{path}: is no paper account that can be resumed ({error}); move it away together "
            "with the journal beside it, and the account starts anew."
        ) from None
    return passed


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


def _fill(row: Mapping[str, Any]) -> Fill:
    return Fill(
        trade_id=row["trade_id"],
        client_id=row["client_id"],
        venue_order_id=row["venue_order_id"],
        side=Side(row["side"]),
        quantity=Decimal(row["quantity"]),
        price=Decimal(row["price"]),
        fee=Decimal(row["fee"]),
        fee_asset=row["fee_asset"],
        kind=FillKind(row["kind"]),
        venue_time_ms=int(row["venue_time_ms"]),
        role=_role(row["role"]),
    )


def _role(value: str | None) -> Role | None:
    return None if value is None else Role(value)


def _maybe(value: str | None) -> Decimal | None:
    return None if value is None else Decimal(value)

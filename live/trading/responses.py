"""Carrying out what reconciliation asks for: the hands of `live.reconcile.reactions`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import assert_never

from live.journal import Journal
from live.journal.ids import is_ours
from live.journal.rows import AdjustmentRow
from live.orders import IntentState
from live.reconcile.reactions import (
    AdoptOrder,
    CancelOrder,
    CheckProtection,
    Degrade,
    FetchFills,
    FlattenPosition,
    ForeignPolicy,
    ForgetLevel,
    LookAgain,
    PlaceTarget,
    QueryOrder,
    Reaction,
    RecordAdjustment,
    ResetPlanner,
    SetLatch,
)
from live.trading.desk import Desk
from live.trading.trader import SymbolTrader
from live.types import ZERO, Ambiguous, Certainty, Definitive, Fill, Found, OrderReport
from live.venue import Venue


async def respond(
    reaction: Reaction,
    venue: Venue,
    trader: SymbolTrader,
    journal: Journal,
    desk: Desk,
    policy: ForeignPolicy,
) -> bool:
    """Carry out one reaction; whether the venue should be looked at again soon."""
    match reaction:
        case LookAgain() | CheckProtection() | FetchFills():
            return True  # every look reads the fills first and ends with the stop
        case ResetPlanner():
            await trader.synchronise()
        case ForgetLevel():
            trader.forget_level()
        case QueryOrder(client_id):
            await _query(client_id, trader, journal)
        case AdoptOrder(report):
            _adopt(report, trader, journal)
            return True
        case CancelOrder(report):
            await _cancel(report, venue, trader, journal)
            return True
        case PlaceTarget(price):
            await trader.place_target(price)
        case RecordAdjustment():
            record(reaction, trader, journal, policy.value)
        case FlattenPosition(reason):
            await trader.flatten(reason)
            return True
        case Degrade(reason):
            desk.degrade(reason, trader.symbol)
        case SetLatch(latch):
            desk.latch(latch)
        case _:
            assert_never(reaction)
    return False


def foreign_fills(trader: SymbolTrader, journal: Journal) -> tuple[Fill, ...]:
    """Trades of others that no acknowledged adjustment has taken up: they are read many times."""
    taken = _trades_in(journal.adjustments(acknowledged=True), trader.symbol)
    return tuple(one for one in trader.books.manual.values() if one.trade_id not in taken)


def record(found: RecordAdjustment, trader: SymbolTrader, journal: Journal, policy: str) -> None:
    """Journal what nothing explains, less what was journalled and waits for a person.

    Args:
      policy: what decides about it, and who acknowledges it where it is acknowledged at once.
    """
    symbol, quantity, by = trader.symbol, found.quantity, None
    evidence: dict[str, object] = {"policy": policy}
    if found.quantity:
        waiting = [row for row in journal.adjustments(acknowledged=False) if row.symbol == symbol]
        quantity -= sum((row.quantity for row in waiting), start=ZERO)
        known = _trades_in(waiting, symbol)
        named = (fill.trade_id for fill in foreign_fills(trader, journal))
        evidence["trades"] = sorted(name for name in named if name not in known)
    if found.acknowledged:
        by = policy
        journal.acknowledge(by, symbol)
    if quantity or found.cash:
        journal.adjust(symbol, found.kind, quantity, found.cash, evidence, acknowledged_by=by)


def _trades_in(rows: Iterable[AdjustmentRow], symbol: str) -> frozenset[str]:
    """Trade ids that adjustments of a symbol were made for."""
    own = (row.evidence.get("trades", ()) for row in rows if row.symbol == symbol)
    return frozenset(trade for trades in own for trade in trades)


async def _query(client_id: str, trader: SymbolTrader, journal: Journal) -> None:
    """Ask for an order that rests according to the journal and is not listed."""
    if not journal.knows(client_id, trader.symbol):
        return
    answer = await trader.following.ask(client_id)
    if not isinstance(answer, Found):
        journal.resolve(client_id, IntentState.UNKNOWN)
        trader.unknowns.search(client_id)


def _adopt(report: OrderReport, trader: SymbolTrader, journal: Journal) -> None:
    """Take up an order with our tag that the journal has lost; another's is only noted."""
    tag = journal.tag(trader.symbol)
    if is_ours(report.client_id, tag) and not journal.knows(report.client_id, trader.symbol):
        journal.adopt(trader.symbol, trader.bar, report)
        return
    journal.event("foreign_order", trader.symbol, {"venue_order_id": report.venue_order_id})


async def _cancel(
    report: OrderReport, venue: Venue, trader: SymbolTrader, journal: Journal
) -> None:
    """Cancel an order by whatever id it has; one that stays is found again."""
    deadline = trader.config.sends.submit
    try:
        async with asyncio.timeout(deadline):
            outcome = await venue.cancel(
                trader.symbol, report.client_id, venue_order_id=report.venue_order_id
            )
    except TimeoutError:
        outcome = Ambiguous(f"no answer to a cancel within {deadline:g} s")
    match outcome:
        case Definitive(kind=Certainty.ACCEPTED):
            return
        case Definitive():
            why = f"{outcome.kind}, {outcome.category}: {outcome.detail}"
        case Ambiguous():
            why = outcome.reason
    body = {"venue_order_id": report.venue_order_id, "why": why}
    journal.event("not_cancelled", trader.symbol, body)

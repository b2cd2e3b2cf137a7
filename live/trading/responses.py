"""Carrying out what reconciliation asks for: the hands of `live.reconcile.reactions`."""

from __future__ import annotations

from typing import assert_never

from live.journal import Journal
from live.journal.ids import is_ours
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
from live.types import Found, OrderReport


async def respond(
    reaction: Reaction, trader: SymbolTrader, journal: Journal, desk: Desk, policy: ForeignPolicy
) -> bool:
    """Carry out one reaction; whether the venue should be looked at again soon."""
    match reaction:
        case LookAgain() | CheckProtection() | FetchFills():
            return True  # every look reads the fills first and ends with the stop
        case ResetPlanner() | ForgetLevel():
            trader.forget_level()
        case QueryOrder(client_id):
            await _query(client_id, trader, journal)
        case AdoptOrder(report):
            _adopt(report, trader, journal)
            return True
        case CancelOrder(report):
            await _cancel(report, trader, journal)
            return True
        case PlaceTarget(price):
            await trader.place_target(price)
        case RecordAdjustment(kind, quantity, cash, acknowledged):
            by = policy.value if acknowledged else None
            evidence = {"policy": policy.value, "trades": sorted(trader.executor.manual)}
            journal.adjust(trader.symbol, kind, quantity, cash, evidence, acknowledged_by=by)
            trader.executor.manual.clear()
        case FlattenPosition(reason):
            await trader.flatten(reason)
            return True
        case Degrade(reason):
            desk.degrade(reason)
        case SetLatch(latch):
            desk.latch(latch)
        case _:
            assert_never(reaction)
    return False


async def _query(client_id: str, trader: SymbolTrader, journal: Journal) -> None:
    """Ask for an order that rests according to the journal and is not listed."""
    if not journal.knows(client_id, trader.symbol):
        return
    answer = await trader.executor.ask(client_id)
    if not isinstance(answer, Found):
        journal.resolve(client_id, IntentState.UNKNOWN)
        trader.search(client_id)


def _adopt(report: OrderReport, trader: SymbolTrader, journal: Journal) -> None:
    """Take up an order with our tag that the journal has lost; another's is only noted."""
    tag = journal.tag(trader.symbol)
    if is_ours(report.client_id, tag) and not journal.knows(report.client_id, trader.symbol):
        journal.adopt(trader.symbol, trader.bar, report)
        return
    journal.event("foreign_order", trader.symbol, {"venue_order_id": report.venue_order_id})


async def _cancel(report: OrderReport, trader: SymbolTrader, journal: Journal) -> None:
    """Cancel an order by its client id; one without is for a person."""
    if report.client_id:
        await trader.executor.cancel(report.client_id)
        return
    body = {"venue_order_id": report.venue_order_id, "why": "it carries no client id"}
    journal.event("not_cancelled", trader.symbol, body)

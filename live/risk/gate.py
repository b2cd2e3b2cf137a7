"""The risk gate: every intent passes one table of checks, or is denied with a code.

A pure function. An input that is missing, unknown or not a number denies like a broken limit; what
applies to an intent depends on what it does to the risk, so that exits stay possible when entries
are not.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import assert_never

from live.risk import PERMITTED, Effect, RiskConfig, effect, limits
from live.risk.context import RiskContext, UnknownInputError, known, prices, usable
from live.types import ZERO, Flat, Held, Intent, IntentKind, Role, Side, Unknown

_HOUR_MS = 3_600_000
_CONTEXT = decimal.Context(prec=200)


@dataclass(frozen=True, slots=True)
class Allow:
    """The intent may be sent."""


@dataclass(frozen=True, slots=True)
class Deny:
    """The intent may not be sent.

    Attributes:
      code: of the check that failed first.
    """

    code: str
    detail: str


Test = Callable[[Intent, RiskContext, RiskConfig], str | None]


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the gate.

    Attributes:
      applies: to intents with one of these effects. fails: says why it denies, or None.
    """

    code: str
    applies: frozenset[Effect]
    fails: Test


def check(intent: Intent, context: RiskContext, config: RiskConfig) -> Allow | Deny:
    """Whether an intent may be sent now; the first check that fails answers."""
    what = effect(intent)
    with decimal.localcontext(_CONTEXT):
        for row in CHECKS:
            if what not in row.applies or row.code in config.disabled:
                continue
            try:
                detail = row.fails(intent, context, config)
            except UnknownInputError as error:
                detail = str(error)
            if detail is not None:
                return Deny(row.code, detail)
    return Allow()


# Facts --------------------------------------------------------------------------------------------


def _state(intent: Intent, context: RiskContext, config: RiskConfig) -> str | None:
    state, what = known(context.state, "the trading state"), effect(intent)
    return None if what in PERMITTED[state] else f"{state} permits no {what}"


def _flag(name: str, wanted: bool, detail: str) -> Test:
    """A yes or no of the context."""

    def fails(intent: Intent, context: RiskContext, config: RiskConfig) -> str | None:
        return None if known(getattr(context, name), name) is wanted else detail

    return fails


def _symbol(intent: Intent, context: RiskContext, config: RiskConfig) -> str | None:
    if intent.symbol not in known(context.allowed_symbols, "the list of symbols"):
        return f"{intent.symbol} is not traded here"
    listed = known(context.instrument, "the instrument").symbol
    if intent.symbol != listed:
        return f"the filters are those of {listed}, not of {intent.symbol}"
    return None


def _market(intent: Intent, context: RiskContext, config: RiskConfig) -> str | None:
    listed = known(context.instrument, "the instrument")
    for status in (known(context.market_status, "the market's status"), listed.status):
        if status != "trading":
            return f"the market is {status}"
    now = known(context.venue_time_ms, "the venue's time")
    if listed.delist_ms is None or now < listed.delist_ms - config.delisting_hours * _HOUR_MS:
        return None
    return f"trading ends within {config.delisting_hours:g} hours"


def _snapshot(intent: Intent, context: RiskContext, config: RiskConfig) -> str | None:
    known(context.position, "the position")
    age = known(context.snapshot_age_ms, "the age of the snapshot")
    if 0 <= age <= 1000 * config.snapshot_age_seconds:
        return None
    return f"the snapshot is {age:g} ms old"


def _late(intent: Intent, context: RiskContext, config: RiskConfig) -> str | None:
    late = known(context.lateness_ms, "the lateness")
    if late <= known(context.entry_window_ms, "the entry window"):
        return None
    return f"{late:g} ms after the bar, at most {context.entry_window_ms:g}"


def _clock(intent: Intent, context: RiskContext, config: RiskConfig) -> str | None:
    denial = known(context.clock_denial, "whether the clock is right")
    if denial:
        return denial
    uncertainty = known(context.clock_uncertainty_ms, "the uncertainty of the clock")
    if uncertainty <= known(context.clock_limit_ms, "its limit"):
        return None
    return f"the venue's time is known to {uncertainty:g} ms"


def _rate(name: str, limit: Callable[[RiskConfig], int]) -> Test:
    """A number of orders that were sent already."""

    def fails(intent: Intent, context: RiskContext, config: RiskConfig) -> str | None:
        sent = known(getattr(context, name), name)
        return None if sent < limit(config) else f"{sent} orders were sent"

    return fails


# Exits and protection -----------------------------------------------------------------------------


def _reduces(intent: Intent, context: RiskContext, config: RiskConfig) -> str | None:
    what = effect(intent)
    match what:
        case Effect.INCREASE:
            return _opens(intent, context)
        case Effect.PROTECT:
            return _guards(intent, context)
        case Effect.REDUCE | Effect.FLATTEN:
            return _exits(intent, context)
        case Effect.CANCEL:
            return None
        case _:
            assert_never(what)


def _opens(intent: Intent, context: RiskContext) -> str | None:
    held = known(context.position, "the position")
    if intent.role is not Role.ENTRY:
        return f"an order of role {intent.role.name} must be reduce-only"
    if isinstance(held, Held) and not held.residue and intent.side is Side.of(-held.quantity):
        return "an order against the position must be reduce-only"
    return None


def _exits(intent: Intent, context: RiskContext) -> str | None:
    held = known(context.position, "the position")
    if not isinstance(held, Held):
        return "there is no position to reduce"
    if intent.side is not Side.of(-held.quantity):
        return f"a {intent.side} adds to a position of {held.quantity}"
    most = abs(held.quantity)
    if context.venue_reduce_only:  # which cuts a smallest order down to a smaller position
        most = max(most, known(context.instrument, "the instrument").min_quantity)
    return None if intent.quantity <= most else f"{intent.quantity} exceeds the position of {most}"


def _guarded(context: RiskContext) -> Decimal | None:
    """Signed quantity to protect, or None where it is not known.

    Booked fills stand in for a position that cannot be read, and for the part of it that a read
    does not show yet: where the venue enforces reduce-only, a stop for them can do no harm.
    """
    held, booked = context.position, context.journal_quantity
    if context.venue_reduce_only is not True or not usable(booked):
        booked = None
    match held:
        case None | Unknown():
            return booked
        case Flat():
            return ZERO
        case Held():
            if not usable(held):
                return None
            larger = booked is not None and booked * held.quantity > held.quantity**2
            return booked if larger else held.quantity
        case _:
            assert_never(held)


def _guards(intent: Intent, context: RiskContext) -> str | None:
    quantity = _guarded(context)
    if quantity is None:
        return "there is no known position to protect"
    amend = intent.kind is IntentKind.AMEND
    if quantity == 0:
        return None if amend and not prices(intent) else "there is no position to protect"
    if amend:  # legs of the position: their side and size follow it
        return None
    if intent.side is not Side.of(-quantity):
        return f"a {intent.side} adds to a position of {quantity}"
    if intent.quantity <= abs(quantity):
        return None
    return f"{intent.quantity} exceeds the position of {abs(quantity)}"


def _protectable(intent: Intent, context: RiskContext, config: RiskConfig) -> str | None:
    """Whether the position that an intent makes or keeps has a stop where stops belong."""
    stop = intent.trigger_price if intent.bracket is None else intent.bracket.stop_price
    if effect(intent) is Effect.INCREASE:
        if known(context.stop_possible, "whether a stop can be placed") is not True:
            return "no stop can be placed"
        direction = intent.side.sign
    else:
        quantity = _guarded(context)
        if not quantity or intent.kind not in (IntentKind.AMEND, IntentKind.STOP):
            return None
        if stop is None:
            return "the position would lose its stop"
        direction = 1 if quantity > 0 else -1
    if stop is None:
        return None
    mark = _mark(context)
    if direction * (mark - stop) > 0:
        return None
    return f"a stop at {stop} is not on the losing side of {mark}"


def _mark(context: RiskContext) -> Decimal:
    if not usable(context.quote) and isinstance(context.position, Held):
        return known(context.position.mark_price, "the mark")
    return known(context.quote, "the quote").mark


# The table ----------------------------------------------------------------------------------------

_ALL = frozenset(Effect)
_OPEN = frozenset({Effect.INCREASE})
_DECIDED = frozenset({Effect.INCREASE, Effect.REDUCE})
_PLACED = _ALL - {Effect.CANCEL}

CHECKS: tuple[Check, ...] = (
    Check("state", _ALL, _state),
    Check("frozen", _OPEN, _flag("frozen", False, "an order is unknown")),
    Check("busy", _ALL, _flag("in_flight", False, "a request is in flight")),
    Check("symbol", _ALL, _symbol),
    Check("market_closed", _OPEN, _market),
    Check("environment", _ALL, _flag("environment_proven", True, "this is another account")),
    Check("stale_snapshot", _DECIDED, _snapshot),
    Check("late", _OPEN, _late),
    Check("clock", _OPEN, _clock),
    Check("journal", _OPEN, _flag("journal_writable", True, "the journal cannot be written")),
    Check("disk", _OPEN, _flag("disk_ok", True, "the disk is nearly full")),
    Check("non_finite", _ALL, limits.finite),
    Check("off_tick", _PLACED, limits.on_tick),
    Check("off_step", _PLACED, limits.on_step),
    Check("below_minimum", _DECIDED, limits.at_least),
    Check("above_maximum", _PLACED, limits.at_most),
    Check("collar", _OPEN, limits.collar),
    Check("order_notional", _OPEN, limits.order_notional),
    Check("position_notional", _OPEN, limits.position_notional),
    Check("gross_notional", _OPEN, limits.gross_notional),
    Check("leverage", _OPEN, limits.effective_leverage),
    Check("available", _OPEN, limits.affordable),
    Check("reduce_only", _PLACED, _reduces),
    Check("rate_minute", _OPEN, _rate("orders_minute", lambda config: config.orders_per_minute)),
    Check("rate_day", _OPEN, _rate("orders_day", lambda config: config.orders_per_day)),
    Check("duplicate", _ALL, _flag("repeated", False, "it is in the journal already")),
    Check("unprotectable", _PLACED, _protectable),
)

CODES = tuple(row.code for row in CHECKS)

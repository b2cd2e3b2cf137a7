"""Checks that ask the venue for its time and for what it lists. Reads alone; no order."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from live import planner
from live.clock import Clock, ClockLimits, last_boundary
from live.config import EnvConfig, ExchangeEnvConfig, LiveConfig
from live.observation.bars import duration_ms, when
from live.operations.doctor_host import percentile
from live.operations.doctor_rows import Row, Verdict
from live.planner.decision import DecisionConfig, SymbolState
from live.secrets import Secret
from live.timing import OffsetEstimator
from live.types import (
    AccountInfo,
    Balance,
    Flat,
    Instrument,
    Quote,
    Snapshot,
    UnreadableError,
)
from live.venue import Venue

_SAMPLES = 12
_SLOW_SECONDS = 1.0


@dataclass(slots=True)
class Visit:
    """What the checks share, and what the earlier ones have read for the later ones.

    Attributes:
      keys: by argument name, none in paper mode. confirm: the account as confirmed.
      withdrawing: keys that may withdraw are accepted. symbol: as spelled; None = the first.
    """

    config: LiveConfig
    venue: Venue
    clock: Clock
    estimator: OffsetEstimator
    limits: ClockLimits
    keys: Mapping[str, Secret] = field(default_factory=dict)
    confirm: str | None = None
    withdrawing: bool = False
    symbol: str | None = None
    account: AccountInfo | None = None
    balance: Balance | None = None
    instrument: Instrument | None = None
    quote: Quote | None = None

    @property
    def paper(self) -> bool:
        """Whether the account is simulated here."""
        return self.config.runner.mode == "paper"

    @property
    def env(self) -> EnvConfig:
        """The environment of the symbol."""
        return self.config.env_of(self.symbol or self.config.symbols[0])

    @property
    def decision(self) -> DecisionConfig:
        """What the planner would decide by."""
        # Heavy, and of no use where the venue does not answer.
        from live.trading.policies import decision_of

        return decision_of(self.env, self.listed)

    async def whose(self) -> AccountInfo:
        """The account, read once.

        Raises:
          UnreadableError: the venue did not say.
        """
        if self.account is None:
            self.account = await self.venue.account()
        return self.account

    @property
    def listed(self) -> Instrument:
        """The instrument.

        Raises:
          UnreadableError: it was not read.
        """
        if self.instrument is None:
            raise UnreadableError(f"{self.env.symbol} was not read")
        return self.instrument


async def clock(visit: Visit) -> AsyncIterator[Row]:
    """The venue's time against this machine's, and how long an answer takes."""
    took = []
    for _ in range(_SAMPLES):
        sent = visit.clock.monotonic()
        begun = time.perf_counter()
        server_ms = await visit.venue.server_time()
        took.append(time.perf_counter() - begun)
        visit.estimator.add(server_ms, sent, visit.clock.monotonic())
    offset = float(getattr(visit.clock, "offset_ms", 0.0))
    uncertainty = float(getattr(visit.clock, "uncertainty_ms", 0.0))
    if visit.config.venue.base_url is not None:
        text = f"the exchange of this machine has a time of its own, {offset:+.0f} ms off"
        yield Row("host", "clock", Verdict.OK, text)
    else:
        yield clock_row(offset, uncertainty, visit.limits, signed=not visit.paper)
    slow = percentile(took, 0.95)
    text = f"95 % of the answers within {1000 * slow:.0f} ms"
    if slow <= _SLOW_SECONDS:
        yield Row("data", "latency", Verdict.OK, text)
    else:
        yield Row("data", "latency", Verdict.WARN, text, "run nearer to the venue")


def clock_row(offset_ms: float, uncertainty_ms: float, limits: ClockLimits, *, signed: bool) -> Row:
    """What an offset of this machine's clock means.

    Args:
      signed: requests carry this machine's time, which the venue refuses if it is far off.
    """
    text = f"{offset_ms:+.0f} ms off the venue's, known to {uncertainty_ms:.0f} ms"
    denial = limits.denial(offset_ms, uncertainty_ms)
    if denial is not None:
        fix = "synchronise this machine's clock (NTP)"
        known = uncertainty_ms <= limits.halt_ms
        verdict = Verdict.WARN if known and not signed else Verdict.FAIL
        return Row("host", "clock", verdict, text, fix)
    if limits.warns(offset_ms):
        return Row("host", "clock", Verdict.WARN, text, "synchronise this machine's clock (NTP)")
    return Row("host", "clock", Verdict.OK, text)


# Symbol -----------------------------------------------------------------------------------------


async def symbol(visit: Visit) -> AsyncIterator[Row]:
    """Whether it trades, on which terms."""
    visit.instrument = listed = await visit.venue.instrument(visit.env.symbol)
    text = (
        f"{listed.symbol}: step {listed.quantity_step:f}, least {listed.min_quantity:f} or "
        f"{listed.min_notional:f} {listed.quote}, tick {listed.tick:f}"
    )
    yield Row("symbol", "filters", Verdict.OK, text)
    if listed.delist_ms is not None:
        text = f"trading ends at {when(listed.delist_ms)} UTC"
        yield Row("symbol", "delisting", Verdict.WARN, text, "nothing is opened shortly before")
    for row in terms_rows(visit.env, listed):
        yield row


def terms_rows(env: ExchangeEnvConfig, listed: Instrument) -> list[Row]:
    """Leverage and fee of a listed symbol against those that are configured."""
    rows = []
    text = f"at most {listed.max_leverage.normalize():f}"
    if listed.max_leverage > 0 and not env.leverage <= float(listed.max_leverage):
        text, fix = f"{text}, configured is {env.leverage:g}", "lower [env] leverage"
        rows.append(Row("symbol", "leverage", Verdict.FAIL, text, fix))
    else:
        rows.append(Row("symbol", "leverage", Verdict.OK, text))
    fee, given = float(listed.taker_fee), env.transaction_fee
    if given is None or given == fee:
        rows.append(Row("symbol", "taker fee", Verdict.OK, f"{fee:g}"))
    elif given > fee:
        text = f"{fee:g}, configured is {given:g}"
        rows.append(Row("symbol", "taker fee", Verdict.WARN, text, "orders are smaller than need"))
    else:
        text = f"{fee:g}, configured is {given:g}"
        fix = "raise [env] transaction_fee, or leave it out: full orders will not be paid for"
        rows.append(Row("symbol", "taker fee", Verdict.FAIL, text, fix))
    return rows


async def smallest(visit: Visit) -> AsyncIterator[Row]:
    """Whether the smallest order that the actions can ask for is one that the venue takes."""
    visit.quote = quote = await visit.venue.quote(visit.listed.symbol)
    if visit.balance is None:
        visit.balance = await visit.venue.balance()
    now_ms = visit.clock.now_ms()
    yield smallest_row(visit.listed, visit.balance, quote, visit.decision, now_ms)


def smallest_row(
    listed: Instrument, balance: Balance, quote: Quote, decision: DecisionConfig, now_ms: int
) -> Row:
    """What the planner makes of the smallest opening of a flat account."""
    action = _smallest_action(decision)
    if action is None:
        return Row("symbol", "smallest order", Verdict.SKIP, "no action opens anything")
    flat = flat_snapshot(listed, balance, quote, now_ms)
    _, planned = planner.plan(SymbolState.start(), flat, action, decision)
    if planned.intents:
        text = f"action {action} opens {planned.intents[0].quantity:f} {listed.base}"
        return Row("symbol", "smallest order", Verdict.OK, text)
    text = f"action {action} at {balance.equity:f} {balance.asset} is refused: {planned.reason}"
    fix = "fund the account, or leave small levels out"
    return Row("symbol", "smallest order", Verdict.WARN, text, fix)


def flat_snapshot(
    listed: Instrument, balance: Balance, quote: Quote, now_ms: int, **more: Any
) -> Snapshot:
    """A look at an account without a position.

    Args:
      more: other fields of `Snapshot`.
    """
    fields: dict[str, Any] = {"bar_open_ms": 0, "received_monotonic_ns": 0, **more}
    return Snapshot(
        venue_time_ms=now_ms,
        instrument=listed,
        position=Flat(),
        balance=balance,
        quote=quote,
        **fields,
    )


def _smallest_action(decision: DecisionConfig) -> int | None:
    """The opening action of the smallest level, or the first row that opens."""
    if decision.levels is not None:
        sizes = {k: abs(x) if decision.shorts else x for k, x in enumerate(decision.levels)}
        opening = {k: size for k, size in sizes.items() if size > 0}
        return min(opening, key=lambda k: opening[k], default=None)
    sides = () if decision.table is None else decision.table.sides
    return next((k for k, side in enumerate(sides) if side in (1, -1)), None)


async def boundary(visit: Visit) -> AsyncIterator[Row]:
    """When the next bar closes."""
    length = duration_ms(visit.config.env.execution_frame)
    now = visit.clock.now_ms()
    end = last_boundary(now, length) + length
    name = visit.config.env.execution_frame.name
    text = f"{name} closes at {when(end)} UTC, in {(end - now) / 1000:.0f} s"
    yield Row("state", "next bar", Verdict.OK, text)

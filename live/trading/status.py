"""What the page and `jaxtrade live status` show of a daemon, as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, assert_never

import numpy as np

import jaxtrade
from jaxtrade.core.account import ACCOUNT_STATE_LABELS
from jaxtrade.market.features import OHLCV_COLUMNS
from jaxtrade.market.spec import MarketSpec
from jaxtrade.timeframe import TimeFrame
from live.clock import Clock
from live.journal import Journal
from live.observation.bars import duration_ms
from live.risk import RiskConfig
from live.risk.breakers import Breakers
from live.risk.circuit import loss
from live.types import Flat, Held, OrderReport, Position, Snapshot, Unknown
from live.venue import Venue, usage_of
from live.venues.symbols import among

if TYPE_CHECKING:
    from live.trading.daemon import Daemon
    from live.trading.desk import Desk
    from live.trading.symbol import SymbolLoop

# A bar is late when it is this much older than its length, a look when it is older than this.
_LATE_SECONDS, _LOOK_SECONDS, _SILENCE_SECONDS = 60.0, 60.0, 60.0


def status_of(daemon: Daemon, symbol: str | None = None) -> dict[str, Any]:
    """Everything that `live.operations.server.StatusSource.status` promises.

    Args:
      symbol: the one whose orders and decisions are wanted too, in any spelling; None = the first.

    Raises:
      ValueError: it is not traded.
    """
    names = [one.symbol for one in daemon.symbols]
    chosen = names[0] if symbol is None else among(symbol, names)
    if chosen is None:
        raise ValueError(f"symbol: {symbol!r} is not traded; expected one of {', '.join(names)}")
    now_ms, risk = daemon.clock.now_ms(), daemon.symbols[0].trader.config.risk
    return {
        **account_of(daemon.desk, daemon.journal, daemon.clock),
        "started_ms": daemon.course.started_ms,
        "mode": daemon.config.mode,
        "venue": daemon.venue.name,
        "equity_history": list(daemon.course.equity),
        "feeds": feeds_of(daemon.symbols, daemon.venue, now_ms),
        "held_up": dict(usage_of(daemon.venue).held_up),
        "breakers": breakers_of(daemon.desk.breakers, risk),
        "disabled": list(risk.disabled),
        "symbol": chosen,
        "symbols": [
            symbol_of(one, daemon.desk, daemon.journal, now_ms, detailed=one.symbol == chosen)
            for one in daemon.symbols
        ],
    }


def account_of(desk: Desk, journal: Journal, clock: Clock) -> dict[str, Any]:
    """Whose account it is, its state, money and clock."""
    balance, breakers = desk.balance, desk.breakers
    return {
        "time_ms": clock.now_ms(),
        "account": journal.meta("tag"),
        "strategy": journal.meta("strategy_id"),
        "version": jaxtrade.__version__,
        "clock": {
            "offset_ms": getattr(clock, "offset_ms", None),
            "uncertainty_ms": getattr(clock, "uncertainty_ms", None),
        },
        "state": str(desk.state),
        "reasons": list(desk.standing.reasons),
        "latches": [
            {"state": row.state, "reason": row.reason, "detail": row.detail, "set_ms": row.set_ms}
            for row in journal.latches()
        ],
        "unacknowledged": len(journal.adjustments(acknowledged=False)),
        "equity": {
            "now": None if balance is None else balance.equity,
            "available": None if balance is None else balance.available,
            "initial": journal.baseline(),
            "peak": journal.peak(),
            "day_start": journal.day_start(),
            "asset": None if balance is None else balance.asset,
            "drawdown": None if breakers is None else breakers.drawdown,
            "daily_loss": None if breakers is None else breakers.daily_loss,
        },
    }


# Feeds and limits -------------------------------------------------------------------------------


def feeds_of(symbols: Sequence[SymbolLoop], venue: Venue, now_ms: int) -> list[dict[str, Any]]:
    """How old what is known is, seconds: bars by frame, the last look, each stream.

    Of several symbols the oldest counts, and is named.
    """
    ages: dict[str, tuple[float, float, str]] = {}
    for one in symbols:
        for name, age, limit in _feeds(one, now_ms):
            if name not in ages or age > ages[name][0]:
                ages[name] = (age, limit, one.symbol)
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "age_seconds": age,
            "limit_seconds": limit,
            "symbol": symbol if len(symbols) > 1 else None,
        }
        for name, (age, limit, symbol) in ages.items()
    ]
    for name, silence in usage_of(venue).silences.items():
        stream = {"age_seconds": silence, "limit_seconds": _SILENCE_SECONDS}
        rows.append({"name": f"{name} stream", **stream})
    return rows


def _feeds(one: SymbolLoop, now_ms: int) -> Iterator[tuple[str, float, float]]:
    """Name, age and limit in seconds of what one symbol reads."""
    view, seen = one.trader.view, one.progress.seen
    for name, bars in ({} if view is None else view.snapshot.bars).items():
        length = duration_ms(TimeFrame.parse(name))
        end = int(bars.open_time_ms[-1]) + length
        yield f"bars {name}", (now_ms - end) / 1000, length / 1000 + _LATE_SECONDS
    if seen is not None:
        yield "account", (now_ms - seen.venue_time_ms) / 1000, _LOOK_SECONDS


def breakers_of(breakers: Breakers | None, risk: RiskConfig) -> list[dict[str, Any]]:
    """Every limit that ends trading, with what counts against it now."""
    if breakers is None:
        return []
    rows: list[tuple[str, Decimal | int | float, float]] = [
        ("daily_loss", breakers.daily_loss, risk.daily_loss_limit),
        ("drawdown", breakers.drawdown, risk.max_drawdown),
    ]
    threshold, last = breakers.bankrupt_threshold, breakers.last
    if threshold is not None and last is not None:
        rows.append(("bankrupt", loss(breakers.initial, last.equity), 1 - threshold))
    rows += [
        ("rejections", breakers.rejections, risk.max_rejections),
        ("rate_denied", _most(breakers.rate_denied), risk.max_rate_denied_bars),
        ("invalid_action", _most(breakers.invalid_actions), risk.max_invalid_actions),
    ]
    return [
        {"name": name, "value": value, "limit": limit}
        for name, value, limit in rows
        if name not in risk.disabled
    ]


def _most(counts: Mapping[str, int]) -> int:
    """Of the symbol that is nearest to its limit."""
    return max(counts.values(), default=0)


# One symbol -------------------------------------------------------------------------------------


def symbol_of(
    one: SymbolLoop, desk: Desk, journal: Journal, now_ms: int, *, detailed: bool
) -> dict[str, Any]:
    """One symbol: a row of the table, and with ``detailed`` everything."""
    spec, seen, decisions = one.trader.observer.spec, one.progress.seen, one.progress.decisions
    newest = {k: v for k, v in decisions[0].items() if k != "observation"} if decisions else None
    row: dict[str, Any] = {
        "symbol": one.symbol,
        "execute_on": spec.execute_on.name,
        "next_bar_ms": None if seen is None else seen.bar_open_ms + 2 * one.trader.bar_ms,
        "state": str(desk.standing_of(one.symbol).state),
        "reasons": list(desk.standing_of(one.symbol).reasons),
        "frozen": "an order of unknown outcome" if one.trader.frozen else None,
        "policy": one.policy.name,
        "steps": one.progress.steps,
        "missed_bars": one.progress.missed_bars,
        "position": position_of(None if seen is None else seen.position),
        "protection": protection_of(one.symbol, seen, journal),
        "decision": newest,
        "unknown_orders": [
            {"client_id": row.client_id, "age_seconds": Decimal(now_ms - row.created_ms) / 1000}
            for row in journal.unresolved(one.symbol)
        ],
    }
    if detailed:
        row["orders"] = [] if seen is None else [order_of(order) for order in seen.orders]
        row["decisions"] = [
            {**given, "observation": observation_of(given["observation"], spec)}
            for given in decisions
        ]
    return row


def position_of(position: Position | None) -> dict[str, Any]:
    """A position in words and numbers; None = it was not read yet."""
    match position:
        case None:
            return {"state": "unknown"}
        case Flat():
            return {"state": "flat"}
        case Held() as held:
            return {
                "state": "held",
                "quantity": held.quantity,
                "entry_price": held.entry_price,
                "mark_price": held.mark_price,
                "unrealised_pnl": held.unrealised_pnl,
                "liquidation_price": held.liquidation_price,
            }
        case Unknown(reason):
            return {"state": "unknown", "reason": reason}
        case _:
            assert_never(position)


def protection_of(symbol: str, seen: Snapshot | None, journal: Journal) -> dict[str, Any] | None:
    """What guards a position as last seen; None = there is none to guard.

    The prices are the venue's where it states them, else those that a local watcher holds.
    """
    position = None if seen is None else seen.position
    if not isinstance(position, Held):
        return None
    known = journal.protection(symbol)
    stop, target = position.stop_price, position.target_price
    if stop is None and known is not None and known.where_held == "local":
        stop, target = known.stop_price, known.target_price
    return {
        "state": "bare" if stop is None else "protected",
        "stop_price": stop,
        "target_price": target,
        "where": None if stop is None else "venue" if known is None else known.where_held,
    }


def order_of(order: OrderReport) -> dict[str, Any]:
    """An order that rests at the venue."""
    return {
        "client_id": order.client_id,
        "role": None if order.role is None else order.role.name.lower(),
        "side": order.side,
        "quantity": order.quantity,
        "filled": order.filled,
        "trigger_price": order.trigger_price,
        "status": order.status,
        "time_ms": order.venue_time_ms,
    }


def observation_of(seen: Mapping[str, np.ndarray], spec: MarketSpec) -> dict[str, Any]:
    """Every part of an observation with the names of its columns or values."""
    columns: dict[str, Sequence[str]] = dict(zip(spec.keys, spec.feature_columns, strict=True))
    columns["base_features"] = OHLCV_COLUMNS[:4]
    found: dict[str, Any] = {}
    for key, part in seen.items():
        if key in columns:
            found[key] = {"columns": list(columns[key]), "rows": part}
        else:
            found[key] = {"labels": list(ACCOUNT_STATE_LABELS), "values": part}
    return found

"""Replays for tests, and what a runner would read from them in one go."""

from __future__ import annotations

from collections.abc import Coroutine
from decimal import Decimal
from types import MappingProxyType
from typing import Any, TypeVar

from live.observation import Observer
from live.replay import ReplayVenue
from live.replay.data import ReplayData
from live.replay.filters import DEFAULT_SYMBOL
from live.replay.money import ReplayTerms
from live.types import Intent, IntentKind, Role, Side, Snapshot

Answer = TypeVar("Answer")

# Fields of an environment's configuration that its account is made of.
TERMS = (
    "initial_cash",
    "transaction_fee",
    "half_spread",
    "slippage",
    "leverage",
    "maintenance_margin_rate",
    "rules",
)


def data_like(env: Any, frame: Any) -> ReplayData:
    """The data of an environment's configuration."""
    config = env.config
    return ReplayData.from_frame(
        frame,
        time_frames=config.frames,
        window_sizes=config.windows,
        execute_on=config.execution_frame,
        features=config.features,
        rules=config.rules,
    )


def terms_like(env: Any) -> ReplayTerms:
    """The terms of an environment's configuration."""
    return ReplayTerms(**{name: getattr(env.config, name) for name in TERMS})


def observer_like(env: Any, **changes: Any) -> Observer:
    """An observer of an environment's configuration."""
    config = env.config
    features = config.features
    if not isinstance(features, (list, tuple)):
        features = [features] * len(config.frames)
    return Observer(
        env.market.spec,
        tuple("default" if one is None else one for one in features),
        leverage=float(config.leverage),
        maintenance_rate=config.effective_maintenance_rate,
        **{"replay": True, **changes},
    )


async def snapshot(venue: ReplayVenue, observer: Observer) -> Snapshot:
    """Everything of one instant."""
    symbol = (await venue.instrument(venue.symbol)).symbol
    bars = {
        frame.name: await venue.closed_bars(symbol, frame.name, observer.needed(frame))
        for frame in observer.frames
    }
    return Snapshot(
        bar_open_ms=venue.bar_open_ms,
        venue_time_ms=await venue.server_time(),
        received_monotonic_ns=0,
        instrument=await venue.instrument(symbol),
        position=await venue.position(symbol),
        balance=await venue.balance(),
        quote=await venue.quote(symbol),
        bars=MappingProxyType(bars),
        orders=await venue.orders(symbol),
    )


def now(coroutine: Coroutine[Any, Any, Answer]) -> Answer:
    """What a coroutine of the replay venue gives; none of them ever waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError(f"{coroutine} waited")


def read(venue: ReplayVenue, observer: Observer) -> Snapshot:
    """`snapshot`, without an event loop."""
    return now(snapshot(venue, observer))


def market(signed: float, *, symbol: str = DEFAULT_SYMBOL, **fields: Any) -> Intent:
    """A market intent for a signed quantity."""
    reduces = fields.get("reduce_only", False)
    defaults = {
        "kind": IntentKind.BRACKET if fields.get("bracket") else IntentKind.MARKET,
        "role": Role.REDUCE if reduces else Role.ENTRY,
        "symbol": symbol,
        "side": Side.of(signed),
        "quantity": Decimal(repr(abs(float(signed)))),
        "reduce_only": False,
        "reason": "test",
    }
    return Intent(**{**defaults, **fields})

"""Compiling before the first bar what would make it late, on prices that nobody has paid."""

from __future__ import annotations

from decimal import Decimal

import numpy as np

from live import planner
from live.observation import Observer
from live.observation.feature_tables import synthetic_bars
from live.planner.decision import DecisionConfig, SymbolState
from live.types import Balance, Flat, Instrument, Quote, Snapshot


def warm_up(
    observer: Observer, instrument: Instrument, decision: DecisionConfig, now_ms: int
) -> dict[str, np.ndarray]:
    """Compute once what a bar computes; nothing is remembered or sent.

    Returns: the observation of made-up prices.
    """
    bars = {
        frame.name: synthetic_bars(frame, observer.needed(frame.name)) for frame in observer.frames
    }
    price = Decimal(100)
    snapshot = Snapshot(
        bar_open_ms=0,
        venue_time_ms=now_ms,
        received_monotonic_ns=0,
        instrument=instrument,
        position=Flat(),
        balance=Balance(price, price, None, instrument.settle, now_ms),
        quote=Quote(price, price, price, now_ms),
    )
    planner.plan(SymbolState.start(), snapshot, 0, decision)
    return {**observer.windows(bars), "account_state": observer.account_state(snapshot, 0)}

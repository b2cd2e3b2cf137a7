"""How an exchange opens: from bars, what is listed and an account to an engine."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Literal

import pandas as pd

from live.exchange.engine import Engine
from live.exchange.prices import PricePath, Series
from live.types import Instrument, MarginMode, PositionMode

Source = pd.DataFrame | str | Path | Mapping[str, pd.DataFrame]

GENERATED_PRICE = 50_000.0
GENERATED_ROWS = 20_000


def wall_ms() -> int:
    """Milliseconds UTC of the machine's clock."""
    return time.time_ns() // 1_000_000


def default_instrument() -> Instrument:
    """BTCUSDT with the filters that large exchanges give it."""
    return Instrument(
        venue="exchange",
        symbol="BTC/USDT:USDT",
        venue_symbol="BTCUSDT",
        base="BTC",
        quote="USDT",
        settle="USDT",
        contract_size=Decimal(1),
        quantity_step=Decimal("0.001"),
        min_quantity=Decimal("0.001"),
        max_market_quantity=Decimal(500),
        tick=Decimal("0.1"),
        min_notional=Decimal(5),
        max_leverage=Decimal(100),
        taker_fee=Decimal("0.00055"),
        maintenance_rate=Decimal("0.005"),
    )


def instruments(count: int) -> list[Instrument]:
    """The default instrument, and others that differ by their name only."""
    bases = [default_instrument().base, *(f"S{number:03}" for number in range(1, count))]
    return [named(f"{base}USDT") for base in bases]


def named(symbol: str) -> Instrument:
    """The default instrument under another name, such as "ETHUSDT".

    Raises:
      ValueError: it is not the name of a perpetual in USDT.
    """
    base = symbol.removesuffix("USDT")
    if base == symbol or not re.fullmatch("[A-Z0-9]+", base):
        raise ValueError(f"symbol: expected one in USDT, such as ETHUSDT; got {symbol!r}.")
    return dataclasses.replace(
        default_instrument(), symbol=f"{base}/USDT:USDT", venue_symbol=symbol, base=base
    )


def open_engine(
    source: Source | None = None,
    instruments: Sequence[Instrument] = (),
    *,
    history: int = 1000,
    anchor: Literal["source", "now"] = "source",
    seed: int = 0,
    initial_balance: Decimal = Decimal(10_000),
    half_spread: Decimal = Decimal(0),
    funding_rate: Decimal = Decimal(0),
    margin_mode: MarginMode = MarginMode.ISOLATED,
    position_mode: PositionMode = PositionMode.ONE_WAY,
    now: Callable[[], int] = wall_ms,
) -> Engine:
    """An engine that stands at the START of row ``history`` of its bars.

    Args:
      source: bars of the first instrument, bars by venue symbol, or None for seeded minutes.
      instruments: what is listed; default `default_instrument`.
      anchor: "now" moves all bars so that the exchange opens at the machine's newest bar boundary.
      now: the machine's clock, milliseconds.

    Raises:
      ValueError: no bar would be left to trade in, or symbols and sources do not match.
    """
    listed = {i.venue_symbol: i for i in instruments or (default_instrument(),)}
    series = _read(source, listed, seed, history)
    first = next(iter(series.values()))
    if not 0 <= history < len(first.open_ms):
        raise ValueError(f"history: must be 0 to {len(first.open_ms) - 1} rows; got {history!r}.")
    start_ms, shift = int(first.open_ms[history]), 0
    if anchor == "now":
        shift = now() // first.step_ms * first.step_ms - start_ms
    return Engine(
        {name: PricePath(own.shifted(shift), listed[name].tick) for name, own in series.items()},
        listed,
        start_ms=start_ms + shift,
        initial_balance=initial_balance,
        seed=seed,
        half_spread=half_spread,
        funding_rate=funding_rate,
        margin_mode=margin_mode,
        position_mode=position_mode,
    )


def _read(
    source: Source | None, listed: Mapping[str, Instrument], seed: int, history: int
) -> dict[str, Series]:
    if source is None:
        rows = history + GENERATED_ROWS
        return {
            name: Series.generate(seed + number, rows, GENERATED_PRICE, float(instrument.tick))
            for number, (name, instrument) in enumerate(listed.items())
        }
    by_symbol = source if isinstance(source, Mapping) else {next(iter(listed)): source}
    if set(by_symbol) != set(listed):
        raise ValueError(
            f"source: expected bars of {sorted(listed)}; got {sorted(by_symbol)}. instruments= "
            "says what is listed, BTCUSDT alone without it."
        )
    return {name: Series.read(by_symbol[name]) for name in listed}

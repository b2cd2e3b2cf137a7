"""The prices of a run, and the parts of their range: learn on the first, judge on the last."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from agents.settings import RunSettings
from jaxtrade.market import Market, datasets
from jaxtrade.market.times import NS_PER_MINUTE


@dataclasses.dataclass(frozen=True)
class Ranges:
    """Parts of one market that share its tables: learn on the first, judge on the last."""

    train: Market
    validation: Market | None
    test: Market


def read_frame(frame: str) -> Any:
    """A file's path, or the prices of a bundled sample.

    Raises:
      FileNotFoundError: neither a file nor a sample has this name.
    """
    if Path(frame).exists():
        return frame
    if frame in datasets.names():
        return datasets.load(frame)
    raise FileNotFoundError(
        f"frame: no file {frame!r}; bundled samples are {', '.join(datasets.names())}"
    )


def split(market: Market, run: RunSettings) -> Ranges:
    """Training, validation and held-out range by fractions of the usable bars or by dates.

    After each split, bars are left out until no window of the later range reaches into the
    earlier one.
    """
    spec = market.spec
    embargo = run.embargo_bars
    if embargo is None:
        spans = [
            size * frame.minutes
            for size, frame in zip(spec.window_sizes, spec.time_frames, strict=True)
        ]
        embargo = math.ceil(max(spans) / spec.execute_on.minutes)
    dates = [_instant(market, text) for text in run.split]
    train, *middle, test = market.split(*dates, embargo_bars=embargo)
    return Ranges(train, middle[0] if middle else None, test)


def trained_on(bundle: Any, market: Any) -> str | None:
    """How much of a range lies in the time that the bundle was trained on; None when nothing."""
    learnt = bundle.details.get("ranges", {}).get("train")
    if learnt is None:
        return None
    minutes = market.spec.execute_on.minutes
    times = market.bar_time[int(market.first) : int(market.last)]
    decisions = pd.to_datetime(times) + pd.Timedelta(minutes=minutes)
    inside = (decisions >= learnt["first_decision"]) & (decisions < learnt["end"])
    count = int(np.sum(inside))
    if not count:
        return None
    return (
        f"In-sample: {count:,} of these {len(times):,} decisions lie between "
        f"{learnt['first_decision']} and {learnt['end']}, which this policy was trained on. If the "
        f"prices are the same, judge it with --start {learnt['end']}."
    )


def between(market: Any, start: str | None, end: str | None) -> Any:
    """The part of a market that decides from ``start`` on and ends by ``end``."""
    if start is not None:
        market = market.split(start)[1]
    if end is not None:
        market = market.split(end)[0]
    return market


def _instant(market: Market, text: str) -> int:
    """END of the bar at a fraction of the usable range, or the date itself; ns."""
    try:
        fraction = float(text)
    except ValueError:
        return _date(text)
    if not 0 < fraction < 1:
        raise ValueError(f"split: must be a fraction in (0, 1) or a date, was {text}")
    first, last = int(market.first), int(market.last)
    bar = first + round(fraction * (last - first))
    return int(market.bar_time[bar]) + market.spec.execute_on.minutes * NS_PER_MINUTE


def _date(text: str) -> int:
    try:
        stamp = pd.Timestamp(text)
    except ValueError:
        raise ValueError(f"split: must be a fraction in (0, 1) or a date, was {text!r}") from None
    stamp = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
    return int(stamp.as_unit("ns").value)

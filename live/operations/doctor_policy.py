"""Checks of the data that a policy would see, and of the policy on it."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from jaxtrade.market import bars as market_bars
from jaxtrade.market.features import OHLCV_COLUMNS
from jaxtrade.market.frame import Rows
from jaxtrade.market.times import NS_PER_SECOND
from jaxtrade.timeframe import TimeFrame
from live import planner
from live.clock import last_boundary
from live.observation import Observer
from live.observation.bars import StaleBarsError, duration_ms, newest_rows, when
from live.operations.doctor_rows import Row, Verdict
from live.operations.doctor_venue import Visit, flat_snapshot
from live.planner.decision import DecisionConfig, SymbolState
from live.policy import BaselinePolicy, BundlePolicy, Policy
from live.types import Balance, Bars, Quote, Snapshot, UnreadableError

_DECISIONS = 100
_MEMORY_FACTOR = 10  # of the history that the window's features are compared on
_MOST_ROWS = 5000  # of a frame; a fine one beside a coarse one would need very many
_PRICE_TOLERANCE, _VOLUME_TOLERANCE = 1e-9, 1e-6
_LATE_SECONDS = 2.0


async def history(visit: Visit, observer: Observer) -> dict[str, Bars]:
    """Closed bars of every frame, long enough for every check.

    Raises:
      UnreadableError: the venue did not tell, or its newest bar does not come.
    """
    found = {}
    for frame in observer.frames:
        count = _rows(observer, frame)
        bars = await visit.venue.closed_bars(visit.listed.symbol, frame.name, count)
        if _late(bars, frame, visit.clock.now_ms()):
            await asyncio.sleep(_LATE_SECONDS)
            bars = await visit.venue.closed_bars(visit.listed.symbol, frame.name, count)
        found[frame.name] = bars
    return found


def _late(bars: Bars, frame: TimeFrame, now_ms: int) -> bool:
    length = duration_ms(frame)
    return int(bars.open_time_ms[-1]) != last_boundary(now_ms, length) - length


def _rows(observer: Observer, frame: TimeFrame) -> int:
    """Rows for the memory check, or for the last decisions, whichever is more."""
    needed = observer.needed(frame.name)
    pace = observer.spec.execute_on.minutes
    decided = needed + -(-_DECISIONS * pace // frame.minutes)
    return min(max(_MEMORY_FACTOR * needed, decided), _MOST_ROWS)


# Data -------------------------------------------------------------------------------------------


def frames(bars: Mapping[str, Bars], observer: Observer, now_ms: int) -> Iterator[Row]:
    """Whether the newest bar of each frame is there, and none is missing."""
    for frame in observer.frames:
        length, one = duration_ms(frame), bars[frame.name]
        try:
            seen = observer.validate(one, last_boundary(now_ms, length))
        except UnreadableError as error:
            late = isinstance(error, StaleBarsError)
            fix = "the venue is late: try again" if late else "wait for more bars, or ask for fewer"
            yield Row("data", f"bars {frame.name}", Verdict.FAIL, str(error), fix)
            continue
        newest = int(seen.open_time_ms[-1])
        text = f"{len(one.open_time_ms)} in a row, the newest of {when(newest)} UTC"
        yield Row("data", f"bars {frame.name}", Verdict.OK, text)


def resampled(bars: Mapping[str, Bars], observer: Observer) -> Iterator[Row]:
    """Whether the venue's own bars are what its finest ones add up to."""
    finest, *coarser = sorted(observer.frames, key=lambda frame: frame.minutes)
    rows = _as_rows(bars[finest.name])
    for frame in coarser:
        if frame.minutes % finest.minutes:
            continue
        made = market_bars.aggregate(rows, frame, "drop")
        yield _compared(bars[frame.name], made, frame, finest)


def _as_rows(bars: Bars) -> Rows:
    columns = {name: bars.ohlcv[:, i] for i, name in enumerate(OHLCV_COLUMNS)}
    return Rows(bars.open_time_ms * (NS_PER_SECOND // 1000), columns, None, {})


def _compared(native: Bars, made: market_bars.Bars, frame: TimeFrame, finest: TimeFrame) -> Row:
    name = f"resampled {frame.name}"
    starts = made.start_minute * 60_000
    _, ours, theirs = np.intersect1d(native.open_time_ms, starts, return_indices=True)
    if not len(ours):
        text = f"no whole bar of {frame.name} in the bars of {finest.name}"
        return Row("data", name, Verdict.SKIP, text)
    added = np.stack([made.columns[column][theirs] for column in OHLCV_COLUMNS], axis=1)
    tolerance = np.array([_PRICE_TOLERANCE] * 4 + [_VOLUME_TOLERANCE])
    # Written so that NaN differs.
    same = np.abs(native.ohlcv[ours] - added) <= tolerance * np.maximum(np.abs(added), 1e-12)
    if same.all():
        text = f"{len(ours)} bars are what those of {finest.name} add up to"
        return Row("data", name, Verdict.OK, text)
    wrong = ~same.all(axis=1)
    first = int(native.open_time_ms[ours[wrong.argmax()]])
    column = OHLCV_COLUMNS[int((~same[wrong.argmax()]).argmax())]
    text = f"{int(wrong.sum())} of {len(ours)} differ from {finest.name}, first {column} of "
    fix = "the policy was trained on resampled bars: look at these before you trust it"
    return Row("data", name, Verdict.WARN, f"{text}{when(first)} UTC", fix)


# Policy -----------------------------------------------------------------------------------------


def memory(bars: Mapping[str, Bars], observer: Observer) -> Iterator[Row]:
    """Whether the features of the window depend on more rows than are asked for."""
    for frame in observer.spec.time_frames:
        name = f"memory {frame.name}"
        one = bars[frame.name]
        try:
            observer.check_memory(one)
        except ValueError as error:
            yield Row("policy", name, Verdict.FAIL, str(error), "raise feature_lookback")
            continue
        needed = observer.needed(frame.name)
        if len(one.open_time_ms) <= needed:
            text = f"only {len(one.open_time_ms)} bars to look at"
            yield Row("policy", name, Verdict.SKIP, text)
        else:
            text = f"{observer.lookback} rows before the window are enough"
            yield Row("policy", name, Verdict.OK, text)


async def inference(
    visit: Visit,
    bars: Mapping[str, Bars],
    observer: Observer,
    policy: Policy,
) -> AsyncIterator[Row]:
    """One decision in time, and usable ones on the last bars."""
    views = list(past(visit, bars, observer))
    if not views:
        yield Row("policy", "inference", Verdict.SKIP, "there is no complete bar to decide on")
        return
    newest, seen = views[-1]
    # A function of the user's may remember what it saw, so it is asked once.
    repeatable = isinstance(policy, BundlePolicy | BaselinePolicy)
    try:
        if repeatable:  # what a run compiles before its first bar is compiled here
            await asyncio.to_thread(policy, seen, _info(newest))
        begun = time.perf_counter()
        action = await asyncio.to_thread(policy, seen, _info(newest))
    except Exception as error:  # the user's code: whatever it raises is what the row says
        text = f"raises {type(error).__name__}: {error}"
        yield Row("policy", "inference", Verdict.FAIL, text, "a run would hold for ever")
        return
    seconds, limit = time.perf_counter() - begun, visit.config.policy_timeout_seconds
    text = f"{1000 * seconds:.1f} ms of {limit:g} s"
    if seconds <= limit:
        yield Row("policy", "inference", Verdict.OK, text)
    else:
        fix = "raise [runner] policy_timeout_seconds, or decide faster"
        yield Row("policy", "inference", Verdict.FAIL, text, fix)
    answers = [(newest, action)]
    if repeatable:
        answers = await asyncio.to_thread(
            lambda: [(one, policy(shown, _info(one))) for one, shown in views]
        )
    yield _usable(answers, visit.decision)


def _usable(answers: list[tuple[Snapshot, Any]], decision: DecisionConfig) -> Row:
    """Whether every answer is an action; the planner says what is none."""
    for snapshot, action in answers:
        _, planned = planner.plan(SymbolState.start(), snapshot, action, decision)
        if planned.refused == "invalid_action":
            text = f"answers {action!r} on the bar of {when(snapshot.bar_open_ms)} UTC"
            fix = f"expected a whole number in [0, {decision.num_actions})"
            return Row("policy", "answers", Verdict.FAIL, text, fix)
    return Row("policy", "answers", Verdict.OK, f"usable on {len(answers)} of the last bars")


def past(
    visit: Visit, bars: Mapping[str, Bars], observer: Observer
) -> Iterator[tuple[Snapshot, dict[str, np.ndarray]]]:
    """Looks at a flat account at the end of the last bars, as far as the history reaches."""
    execution = observer.spec.execute_on
    length = duration_ms(execution)
    equity = Decimal(1) if visit.balance is None else visit.balance.equity
    newest = newest_rows(bars[execution.name], _DECISIONS)
    for start, row in zip(newest.open_time_ms.tolist(), newest.ohlcv.tolist(), strict=True):
        end, price = start + length, Decimal(repr(row[3]))
        snapshot = flat_snapshot(
            visit.listed,
            Balance(equity, equity, None, visit.listed.settle, end),
            Quote(price, price, price, end),
            end,
            bar_open_ms=start,
            bars=_until(bars, end),
        )
        try:
            seen = observer.observe(snapshot, 0)
        except UnreadableError:
            continue  # the history of some frame does not reach back so far
        yield snapshot, seen


def _until(bars: Mapping[str, Bars], end_ms: int) -> dict[str, Bars]:
    """The bars that had ended by an instant."""
    found = {}
    for name, one in bars.items():
        known = int(
            np.searchsorted(
                one.open_time_ms, end_ms - duration_ms(TimeFrame.parse(name)), side="right"
            )
        )
        found[name] = dataclasses.replace(
            one, open_time_ms=one.open_time_ms[:known], ohlcv=one.ohlcv[:known]
        )
    return found


def _info(snapshot: Snapshot) -> dict[str, int]:
    return {
        "bar_open_ms": snapshot.bar_open_ms,
        "venue_time_ms": snapshot.venue_time_ms,
        "missed_bars": 0,
    }

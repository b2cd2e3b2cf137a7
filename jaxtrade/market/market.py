"""The market as a pytree: built on the host, moved to the device, passed as an argument."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, cast

import jax
import numpy as np
import pandas as pd

from jaxtrade.core.rules import Rules
from jaxtrade.market import bars as bars_module
from jaxtrade.market import features as features_module
from jaxtrade.market import frame as frame_module
from jaxtrade.market.spec import MarketSpec, is_whole, parse_window_sizes
from jaxtrade.market.times import NS_PER_MINUTE, format_time, instant
from jaxtrade.timeframe import TimeFrame, TimeFrameLike, parse_time_frames, short_repr

Array = jax.Array

_DEFAULT_RULES = Rules()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Market:
    """Execution bars, feature tables and the map between them.

    A market is an argument of every jitted function, never a constant of one. Built by
    ``from_frame`` it holds NumPy arrays; ``to_device`` gives JAX arrays. A stack has a leading axis
    [K] on every leaf.

    Attributes:
      ohlcv: [T, 5] open, high, low, close, volume of the execution bars; float64 on the host.
      features: per frame [W + R, F] float32: W zero rows, then the R feature rows.
      newest: [T, frames] int32, newest feature row visible at the END of each execution bar,
        counted without the zero rows; -1 when none is.
      open_minute: [T] int32, START of each execution bar, minutes since 1970-01-01 UTC.
      funding: [T] funding rate of each bar, or None.
      first, last: int32 (), first usable bar and last bar of the range.
      spec: static description.

    Example:
      >>> from jaxtrade.market import datasets
      >>> market = Market.from_frame(datasets.load("googl_1d"), time_frames="1day",
      ...                            execute_on="1day", window_sizes=5)
      >>> train, test = market.split("2017-01-01")
      >>> int(train.last) == int(test.first)
      True
    """

    ohlcv: Array
    features: tuple[Array, ...]
    newest: Array
    open_minute: Array
    funding: Array | None
    first: Array
    last: Array
    spec: MarketSpec = dataclasses.field(metadata={"static": True})

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        time_frames: TimeFrameLike | Sequence[TimeFrameLike] = "1Hour",
        window_sizes: int | Sequence[int] = 10,
        execute_on: TimeFrameLike = "1Hour",
        features: Any = "default",
        rules: Rules = _DEFAULT_RULES,
        fit_until: Any = None,
    ) -> Market:
        """Build a market on the host from a DataFrame or a .csv, .csv.gz, .parquet or .npz file.

        Args:
          frame: rows with timestamp (START), open, high, low, close, volume; optional funding;
            other numeric columns are seen by feature functions only.
          time_frames, window_sizes: observation frames and rows per window (one size serves all).
          execute_on: length of the execution bars; need not be an observation frame.
          features: feature set, or one per frame (docs/semantics.md, "Features").
          rules: ``nan_prices`` and ``partial_bars`` are read.
          fit_until: end of the training range; needed by fitted feature sets only.

        Raises:
          ValueError: the frame or an argument is wrong; nothing is repaired silently.
        """
        observed_frames = parse_time_frames(time_frames)
        sizes = parse_window_sizes(window_sizes, len(observed_frames))
        execution_frame = TimeFrame.parse(execute_on)
        sets = features_module.resolve(features, len(observed_frames))
        fit_end = None if fit_until is None else instant(fit_until)
        fitted = any(features_module.needs_fit(one) for one in sets)

        rows = frame_module.read(frame, rules.nan_prices)
        named = [("time_frames", one) for one in observed_frames]
        frame_module.check_spacing(rows, [*named, ("execute_on", execution_frame)])
        aggregates = {
            one: bars_module.aggregate(rows, one, rules.partial_bars)
            for one in (*observed_frames, execution_frame)
        }
        execution, gaps = bars_module.execution(aggregates[execution_frame])
        observed = [bars_module.observed(aggregates[one]) for one in observed_frames]
        # Before the features: a function may not be able to handle a handful of bars.
        _first_usable(_newest(observed, execution), sizes, execution_frame)
        tables = []
        for i, (bars, one) in enumerate(zip(observed, sets, strict=True)):

            def auxiliary(bars: bars_module.Bars = bars) -> dict[Any, frame_module.Floats]:
                return {
                    label: bars_module.auxiliary_column(rows, label, bars)
                    for label in rows.auxiliary
                }

            table = features_module.compute(one, bars, auxiliary, fit_end)
            observed[i] = bars.take(table.rows)
            tables.append(table)
        newest = _newest(observed, execution)
        first = _first_usable(newest, sizes, execution_frame)
        gaps.warn()
        padded = [
            np.concatenate([np.zeros((size, table.values.shape[1]), np.float32), table.values])
            for table, size in zip(tables, sizes, strict=True)
        ]
        spec = MarketSpec(
            time_frames=observed_frames,
            window_sizes=sizes,
            execute_on=execution_frame,
            feature_columns=tuple(table.columns for table in tables),
            feature_names=tuple(features_module.name_of(one) for one in sets),
            fit_until=fit_end if fitted else None,
            feature_lookback=features_module.declared_lookback(sets),
        )
        columns = [execution.columns[name] for name in features_module.OHLCV_COLUMNS]
        return cls(
            ohlcv=host(np.stack(columns, axis=1)),
            features=tuple(host(table) for table in padded),
            newest=host(newest),
            open_minute=host(execution.start_minute.astype(np.int32)),
            funding=None if execution.funding is None else host(execution.funding),
            first=host(np.array(first, np.int32)),
            last=host(np.array(len(execution) - 1, np.int32)),
            spec=spec,
        )

    @property
    def num_bars(self) -> int:
        """Number of execution bars T (of the longest market in a stack)."""
        return int(self.ohlcv.shape[-2])

    @property
    def bar_time(self) -> np.ndarray:
        """START of each execution bar, int64 ns since 1970-01-01 UTC, [T] (host)."""
        return np.asarray(self.open_minute).astype(np.int64) * NS_PER_MINUTE

    def split(self, *dates: Any, embargo_bars: int = 0) -> tuple[Market, ...]:
        """Ranges between dates: k dates give k + 1 markets that share every table.

        Range j decides at instants in [date j-1, date j), and its last bar ends at or before
        date j. So neighbouring ranges share no decision, and no reward of one depends on prices
        after its end. Windows may reach back over a date: the past is no secret.

        Args:
          dates: increasing; pandas-readable (UTC when naive) or int ns.
          embargo_bars: bars left out at the beginning of every range but the first.

        Raises:
          ValueError: dates do not increase, a range has no transition, a fitted feature set has
            seen data after the first date, or the market is a stack.
        """
        self.refuse_stack("split")
        if isinstance(embargo_bars, bool) or not is_whole(embargo_bars) or embargo_bars < 0:
            raise ValueError(f"embargo_bars: must be a whole number >= 0; got {embargo_bars!r}.")
        instants = [instant(date) for date in dates]
        if any(b <= a for a, b in itertools.pairwise(instants)):
            shown = [format_time(one) for one in instants]
            raise ValueError(f"split: dates must increase; got {short_repr(shown, 400)}.")
        if instants and self.spec.fit_until is not None and instants[0] < self.spec.fit_until:
            raise ValueError(
                f"split: the features were fitted on data up to "
                f"{format_time(self.spec.fit_until)}; the first date must not be earlier, "
                f"got {format_time(instants[0])}."
            )
        ends = self.bar_time + self.spec.execute_on.minutes * NS_PER_MINUTE
        firsts = [int(self.first)]
        lasts = []
        for one in instants:
            lasts.append(min(int(np.searchsorted(ends, one, side="right")) - 1, int(self.last)))
            begin = int(np.searchsorted(ends, one, side="left")) + int(embargo_bars)
            firsts.append(max(begin, int(self.first)))
        lasts.append(int(self.last))
        for j, (first, last) in enumerate(zip(firsts, lasts, strict=True)):
            if first > last - 1:
                edges = ["the start", *(format_time(one) for one in instants), "the end"]
                raise ValueError(
                    f"split: range {j} (from {edges[j]} to {edges[j + 1]}) has no transition: "
                    f"it needs at least 2 usable bars of {self.spec.execute_on.name}; "
                    "move the dates or reduce embargo_bars."
                )
        return tuple(
            dataclasses.replace(
                self,
                first=host(np.array(first, np.int32)),
                last=host(np.array(last, np.int32)),
            )
            for first, last in zip(firsts, lasts, strict=True)
        )

    def to_device(self, dtype: Any = None) -> Market:
        """The same market as JAX arrays.

        Args:
          dtype: of prices and funding; None is float64 where x64 is enabled, else float32.
            Features stay float32, indices int32.
        """
        import jax.numpy as jnp

        if dtype is None:
            dtype = jax.dtypes.canonicalize_dtype(np.float64)
        return dataclasses.replace(
            self,
            ohlcv=jnp.asarray(self.ohlcv, dtype),
            features=tuple(jnp.asarray(table, jnp.float32) for table in self.features),
            newest=jnp.asarray(self.newest, jnp.int32),
            open_minute=jnp.asarray(self.open_minute, jnp.int32),
            funding=None if self.funding is None else jnp.asarray(self.funding, dtype),
            first=jnp.asarray(self.first, jnp.int32),
            last=jnp.asarray(self.last, jnp.int32),
        )

    def bar_at(self, time: Any) -> int:
        """Number of the execution bar whose START is ``time`` (pandas-readable or int ns).

        Raises:
          ValueError: no execution bar starts then.
        """
        self.refuse_stack("bar_at")
        ns = instant(time)
        starts = self.bar_time
        bar = int(np.searchsorted(starts, ns))
        if bar == len(starts) or starts[bar] != ns:
            raise ValueError(
                f"time {_shown_time(ns)}: no bar of {self.spec.execute_on.name} starts then; bars "
                f"start from {format_time(starts[0])} to {format_time(starts[-1])}."
            )
        return bar

    def refuse_stack(self, what: str) -> None:
        """Refuse what works on one market alone.

        Raises:
          ValueError: this is a stack.
        """
        if self.ohlcv.ndim != 2:
            raise ValueError(f"{what}: works on one market, not on a stack; use it before stack().")


def _newest(observed: list[bars_module.Bars], execution: bars_module.Bars) -> Any:
    """[T, frames] int32 newest visible row of every frame."""
    return np.stack([bars_module.visible(bars, execution) for bars in observed], axis=1)


def _first_usable(newest: Any, sizes: tuple[int, ...], execute_on: TimeFrame) -> int:
    """First bar at which every frame has a full window; at least one more bar must follow."""
    complete = (newest + 1 >= np.asarray(sizes)).all(axis=1)
    first = int(complete.argmax()) if complete.any() else None
    if first is None or first > len(complete) - 2:
        raise ValueError(
            f"frame: too short: {len(complete)} execution bars of {execute_on.name}; the windows "
            f"are complete at bar {'none' if first is None else first} and one more bar is needed."
        )
    return first


def _shown_time(ns: int) -> str:
    try:
        return format_time(ns)
    except (ValueError, OverflowError, pd.errors.OutOfBoundsDatetime):
        return f"{ns} ns"


def host(array: Any) -> Array:
    """A NumPy array where annotations say Array: the pytree is the same on host and device."""
    return cast(Array, array)

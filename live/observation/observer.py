"""What a policy sees: windows of closed bars and six numbers of the account, as in training.

Features and windows are those of `jaxtrade.market`, the account is described by
`jaxtrade.core.account`; this module reads one snapshot into them, or says why it cannot. No I/O.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, assert_never

import numpy as np

from jaxtrade.market import features as market_features
from jaxtrade.market.spec import MarketSpec, parse_window_sizes
from jaxtrade.timeframe import TimeFrame, parse_time_frames
from live.allocation import allotted, check_allocation
from live.observation import account as accounts
from live.observation import bars as bar_checks
from live.observation.bars import duration_ms
from live.observation.feature_tables import check_columns, check_memory, synthetic_bars, table_of
from live.types import Bars, Flat, Held, Snapshot, Unknown, UnreadableError

DEFAULT_LOOKBACK = 50
_MINUTES_PER_DAY = 1440
# The newest row of a request is still forming, one more is spare.
_EXTRA_ROWS = 2
_parsed = functools.lru_cache(maxsize=64)(TimeFrame.parse)


@dataclasses.dataclass(frozen=True, eq=False)
class Observer:
    """Reads snapshots into observations; pure.

    Attributes:
      spec: frames, windows, execution frame and feature columns.
      features: per frame "default", "ohlcv" or the function that ``spec`` names.
      leverage, maintenance_rate: of the account as configured; leverage 1 is spot.
      lookback: rows before a window that the features of the window depend on.
      allocation: what of the equity the symbol may use; the account numbers are relative to that.
      sparse: the venue publishes no bar for a period without trades: a missing row stays missing,
        as offline, and a missing newest row counts as such a period once a quote is younger.
      replay: bars and account come from complete data: their beginning is the beginning, missing
        rows do not exist, and an account that is worth nothing is shown as offline.
      base_features: also give open, high, low and close of the first frame's window.

    Raises:
      ValueError: a frame does not fit the day, the features are fitted here, they return other
        columns than ``spec`` says, or they remember more than ``lookback`` rows.
    """

    spec: MarketSpec
    features: tuple[Any, ...]
    leverage: float
    maintenance_rate: float
    lookback: int = DEFAULT_LOOKBACK
    allocation: float | None = None
    sparse: bool = False
    replay: bool = False
    base_features: bool = False

    def __post_init__(self) -> None:
        for frame in (*self.spec.time_frames, self.spec.execute_on):
            if _MINUTES_PER_DAY % frame.minutes:
                raise ValueError(
                    f"time frame {frame.name}: bars must divide a day, or they would depend on "
                    "when the data began; use 1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30 minutes, ..."
                )
        if not self.lookback >= 0:
            raise ValueError(f"feature_lookback: must be >= 0; got {self.lookback}.")
        check_allocation(self.allocation)
        if not self.leverage >= 1:
            raise ValueError(f"leverage: must be >= 1; got {self.leverage}.")
        for one in self.features:
            if market_features.needs_fit(one):
                raise ValueError(
                    f"features: {market_features.name_of(one)} must be fitted before; "
                    "give the function that fit(...) returned in training."
                )
        check_columns(self.spec, self.features, self.lookback)
        for frame, size in zip(self.spec.time_frames, self.spec.window_sizes, strict=True):
            self.check_memory(synthetic_bars(frame, 10 * (size + self.lookback)))

    @classmethod
    def create(
        cls,
        *,
        time_frames: Any,
        window_sizes: Any,
        execute_on: Any,
        features: Any = "default",
        leverage: float = 1.0,
        maintenance_rate: float = 0.004,
        lookback: int = DEFAULT_LOOKBACK,
        allocation: float | None = None,
        **flags: bool,
    ) -> Observer:
        """An observer from configuration; columns come from the features of made-up bars."""
        frames = parse_time_frames(time_frames)
        sizes = parse_window_sizes(window_sizes, len(frames))
        sets = market_features.resolve(features, len(frames))
        columns = tuple(
            table_of(one, synthetic_bars(frame, size + lookback), frame).columns
            for one, frame, size in zip(sets, frames, sizes, strict=True)
            if not market_features.needs_fit(one)
        )
        spec = MarketSpec(
            time_frames=frames,
            window_sizes=sizes,
            execute_on=TimeFrame.parse(execute_on),
            feature_columns=columns,
            feature_names=tuple(market_features.name_of(one) for one in sets),
        )
        account = float(leverage), float(maintenance_rate)
        return cls(spec, sets, *account, lookback, allocation, **flags)

    # What to ask for.

    @property
    def frames(self) -> tuple[TimeFrame, ...]:
        """Frames whose bars a snapshot needs: those observed and the one that paces decisions."""
        return tuple(dict.fromkeys((*self.spec.time_frames, self.spec.execute_on)))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Observation key -> shape."""
        spec = self.spec
        sizes = {
            key: (size, len(columns))
            for key, size, columns in zip(
                spec.keys, spec.window_sizes, spec.feature_columns, strict=True
            )
        }
        base = {"base_features": (spec.window_sizes[0], 4)} if self.base_features else {}
        return {**sizes, **base, "account_state": (6,)}

    def needed(self, frame: Any) -> int:
        """Rows to request of a frame, the forming one included."""
        return self._kept(TimeFrame.parse(frame)) + _EXTRA_ROWS

    def _kept(self, frame: TimeFrame) -> int:
        """Rows of a frame that an observation depends on."""
        if frame in self.spec.time_frames:
            place = self.spec.time_frames.index(frame)
            return self.spec.window_sizes[place] + self.lookback
        if frame == self.spec.execute_on:
            return 1
        known = ", ".join(one.name for one in self.frames)
        raise ValueError(f"time frame {frame.name}: is not observed; observed are {known}.")

    # Reading.

    def validate(self, bars: Bars, decision_ms: int, *, quote_ms: int | None = None) -> Bars:
        """The rows of one frame that the decision may see, ascending, contiguous and fresh.

        Rows that end after the decision are cut off unseen. Of the rest, as many are kept as the
        window and its look-back need.

        Args:
          decision_ms: end of the newest closed execution bar.
          quote_ms: venue time of the latest quote, for `sparse` venues.

        Raises:
          StaleBarsError: the newest bar is missing. HoleError: one in between is.
          UnreadableError: anything else that is wrong with them.
        """
        frame = _parsed(bars.frame)
        kept = self._kept(frame)
        ordered = bar_checks.arrange(frame, bars.open_time_ms, bars.ohlcv, decision_ms)
        seen = bar_checks.newest_rows(ordered, kept)
        complete = self.sparse and quote_ms is not None and quote_ms >= decision_ms
        if not (self.replay or complete):
            bar_checks.check_fresh(seen, frame, decision_ms)
        if not (self.replay or self.sparse):
            bar_checks.check_contiguous(seen, frame)
        least = min(kept, self._window(frame)) if self.replay else kept
        if len(seen.open_time_ms) < least:
            raise UnreadableError(
                f"bars of {frame.name}: {len(seen.open_time_ms)} closed ones, the window and its "
                f"look-back need {least}."
            )
        bar_checks.check_values(seen, frame)
        return seen

    def _window(self, frame: TimeFrame) -> int:
        frames = self.spec.time_frames
        return self.spec.window_sizes[frames.index(frame)] if frame in frames else 1

    def windows(self, bars: Mapping[str, Bars]) -> dict[str, np.ndarray]:
        """Windows of validated bars: key -> float32 [W, F], newest row last.

        Args:
          bars: canonical frame name -> bars as `validate` returns them.

        Raises:
          UnreadableError: a frame is absent, too short, or gives features that are not finite.
        """
        spec = self.spec
        found: dict[str, np.ndarray] = {}
        base: dict[str, np.ndarray] = {}
        frames = zip(spec.keys, spec.time_frames, spec.window_sizes, self.features, strict=True)
        for i, (key, frame, size, one) in enumerate(frames):
            given = bars.get(frame.name)
            if given is None:
                raise UnreadableError(f"bars of {frame.name}: are absent.")
            try:
                table = table_of(one, given, frame)
            except ValueError as error:
                raise UnreadableError(str(error)) from error
            if table.columns != spec.feature_columns[i] or len(table.values) < size:
                raise UnreadableError(
                    f"features of {frame.name}: got {len(table.values)} rows of {table.columns}; "
                    f"the window has {size} rows of {spec.feature_columns[i]}."
                )
            found[key] = table.values[-size:]
            if i == 0 and self.base_features:
                prices = given.ohlcv[:, :4][table.rows][-size:]
                base["base_features"] = prices.astype(np.float32)
        return {**found, **base}

    def account_state(self, snapshot: Snapshot, held_bars: int) -> np.ndarray:
        """The six account numbers of a snapshot, float32 [6].

        Args:
          held_bars: bars the position has been held in its direction.

        Raises:
          UnreadableError: the position is unknown, a number makes no sense, or a position stands
            on nothing.
        """
        value = allotted(accounts.number("equity", snapshot.balance.equity), self.allocation)
        quantity, entry, mark, liquidation = 0.0, 0.0, 1.0, 0.0
        match snapshot.position:
            case Flat():
                held_bars = 0
            case Held() as held:
                quantity = accounts.number("position quantity", held.quantity)
                entry = accounts.positive("entry price", held.entry_price)
                mark = accounts.positive("mark price", held.mark_price)
                if not value > 0 and not self.replay:
                    raise UnreadableError(f"account: equity {value:g} under a position.")
                if self.leverage > 1:
                    liquidation = accounts.liquidation_price(
                        held, snapshot.balance, self.leverage, self.maintenance_rate
                    )
            case Unknown(reason):
                raise UnreadableError(f"position: unknown ({reason}).")
            case _:
                assert_never(snapshot.position)
        return accounts.describe(
            quantity=quantity,
            entry_price=entry,
            held_bars=held_bars,
            value=value,
            mark=mark,
            liquidation=liquidation,
            leverage=self.leverage,
            maintenance_rate=self.maintenance_rate,
        )

    def observe(self, snapshot: Snapshot, held_bars: int) -> dict[str, np.ndarray]:
        """The whole observation of a snapshot, as the environment's mode "dict".

        Raises:
          UnreadableError: as `validate`, `windows` and `account_state`.
        """
        decision = snapshot.bar_open_ms + duration_ms(self.spec.execute_on)
        if not snapshot.venue_time_ms >= decision:
            raise UnreadableError(
                f"bar of {bar_checks.when(snapshot.bar_open_ms)} UTC: has not ended at the venue."
            )
        checked = {}
        for frame in self.spec.time_frames:
            if frame.name not in snapshot.bars:
                raise UnreadableError(f"bars of {frame.name}: are absent.")
            checked[frame.name] = self.validate(
                snapshot.bars[frame.name], decision, quote_ms=snapshot.quote.venue_time_ms
            )
        state = self.account_state(snapshot, held_bars)
        return {**self.windows(checked), "account_state": state}

    def check_memory(self, bars: Bars) -> None:
        """Refuse features of a frame whose window depends on more than the look-back.

        Args:
          bars: of one frame, a history much longer than `needed`.

        Raises:
          ValueError: naming the frame and the column.
        """
        place = self.spec.time_frames.index(TimeFrame.parse(bars.frame))
        check_memory(self.spec, place, self.features[place], bars, self.lookback)

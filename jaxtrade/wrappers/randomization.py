"""Costs, leverage, start and market drawn anew for every episode."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxtrade.envs.base import TradingEnv
from jaxtrade.envs.mechanics import TradingMechanics
from jaxtrade.envs.state import EnvParams
from jaxtrade.market.market import Market
from jaxtrade.wrappers.base import Transition, Wrapper, WrapperState
from jaxtrade.wrappers.continuing import ContinuingEpisodes
from jaxtrade.wrappers.joining import Spans, end_to_end
from jaxtrade.wrappers.ranges import Range, StartRange, checked

Array = jax.Array


@struct.dataclass(kw_only=True)
class RandomizedParams(EnvParams):
    """Parameters and what is drawn around them.

    Attributes:
      ranges: name -> float [2], (low, high); any of fee, half_spread, slippage, leverage.
      starts: int32 [K, 2], first and last bar an episode may start at; None = as configured.
      spans: places of K markets in ``market``; None = it is a single one.
    """

    ranges: dict[str, Array]
    starts: Array | None
    spans: Spans | None


@struct.dataclass(kw_only=True)
class RandomizedState(WrapperState):
    """The wrapped state and what was drawn for this episode.

    Attributes:
      drawn: name -> value (). symbol: int32 (), number of the market.
    """

    drawn: dict[str, Array]
    symbol: Array


class Randomization(Wrapper):
    """Draws costs, leverage, start and market of every episode, uniformly and independently.

    The values are drawn at the start of an episode and hold until its end. They take the place of
    those in the parameters; whatever has no range stays as configured. `initial_state`, and so
    evaluation, uses the configured values.

    Args:
      env: the environment itself, or `ContinuingEpisodes` around it (an account that restarts after
        ruin then keeps its market, costs and leverage). Other wrappers go around this one.
      fee, half_spread, slippage, leverage: (low, high), or None. Each must be legal throughout for
        the configuration. Leverage must stay above 1, and needs an environment of futures.
      start: (first, last) bar an episode may start at, as bar numbers or as times of bars
        (pandas-readable), both included; needs ``random_start``. A market given to `params` that
        has none of these bars is used whole.
      markets: several markets from `jaxtrade.market.stack`, of which each episode trades one; None
        = the environment's own. ``market`` and the default parameters then hold them end to end.

    Example:
      >>> import jax
      >>> from jaxtrade import make
      >>> from jaxtrade.market import datasets
      >>> env = make("SequentialTradingEnv", datasets.load("eurusd_1h"), leverage=5)
      >>> env = Randomization(env, fee=(0.0, 0.0004), leverage=(2, 10))
      >>> _, state = env.reset(jax.random.key(0))
      >>> 2 <= float(state.drawn["leverage"]) <= 10
      True
    """

    stateful = True
    randomizes = True
    # Not those of the wrapped environment: they hold the ranges.
    default_params = TradingMechanics.default_params

    def __init__(
        self,
        env: TradingEnv[Any],
        *,
        fee: Range | None = None,
        half_spread: Range | None = None,
        slippage: Range | None = None,
        leverage: Range | None = None,
        start: tuple[Any, Any] | None = None,
        markets: Market | None = None,
    ) -> None:
        self._asked: dict[str, Range | None] = {
            "fee": fee,
            "half_spread": half_spread,
            "slippage": slippage,
            "leverage": leverage,
        }
        self.start = None if start is None else StartRange.parse(start)
        self.markets = markets
        super().__init__(env)

    def _wrap(self, env: TradingEnv[Any]) -> None:
        super()._wrap(env)
        self._inmost = env.env if isinstance(env, ContinuingEpisodes) else env
        if isinstance(self._inmost, Wrapper):
            raise ValueError(
                "Randomization: goes around the environment itself or ContinuingEpisodes; got "
                f"{type(self._inmost).__name__}. Put that around Randomization."
            )
        self.ranges = checked(self._asked, env.config)
        self._spans: Spans | None = None
        if self.markets is not None:
            if self.markets.ohlcv.ndim != 3:
                raise ValueError(
                    "markets: expected several, from jaxtrade.market.stack; got a single market."
                )
            self.market, self._spans = end_to_end(self.markets)
        if self.start is not None:
            if not env.config.random_start:
                raise ValueError("start: needs random_start=True in the configuration; got False.")
            self.start.bars(self.market, self._spans or Spans.single(self.market), strict=True)

    def params(self, market: Market | None = None, dtype: Any = None) -> EnvParams:
        """Parameters over another range, market or stack of markets of the same spec."""
        spans = None
        if market is None:
            market, spans = self.market, self._spans
        elif market.ohlcv.ndim == 3:
            market, spans = end_to_end(market)
        base = self.env.params(market, dtype)
        starts = None
        if self.start is not None:
            starts = jnp.asarray(self.start.bars(market, spans or Spans.single(market)))
        ranges = {name: jnp.asarray(pair, base.fee.dtype) for name, pair in self.ranges.items()}
        return RandomizedParams(
            **{field.name: getattr(base, field.name) for field in dataclasses.fields(base)},
            ranges=ranges,
            starts=starts,
            spans=None if spans is None else jax.tree.map(jnp.asarray, spans),
        )

    def in_force(self, state: RandomizedState, params: Any) -> Any:
        """The parameters of this state's episode: its market's range and what was drawn."""
        market = params.market
        if params.spans is not None:
            first, last = params.spans.first[state.symbol], params.spans.last[state.symbol]
            market = dataclasses.replace(market, first=first, last=last)
        return params.replace(market=market, **state.drawn)

    def data_start(self, state: RandomizedState, params: Any) -> Array:
        """First bar of the data of this state's market, int32 ()."""
        if params.spans is None:
            return jnp.zeros_like(state.bar)
        return params.spans.begin[state.symbol]

    # Drawing.

    def _draw(self, bits: Array, params: Any) -> tuple[Any, Array]:
        """New values, in a state that lacks its inner one; and bits for the start."""
        names = sorted(params.ranges)
        # One key, one block of bits: this runs on every step of every lane.
        fresh = jax.random.bits(jax.random.key(bits), (len(names) + 2,), jnp.uint32)
        uniform = (fresh >> 8).astype(params.fee.dtype) * 2.0**-24
        drawn = {}
        for k, name in enumerate(names):
            low, high = params.ranges[name]
            # Rounding must not leave the range.
            drawn[name] = jnp.minimum(low + uniform[k] * (high - low), high)
        symbol = jnp.zeros((), jnp.int32)
        if params.spans is not None:
            symbol = (uniform[-2] * params.spans.first.shape[0]).astype(jnp.int32)
        return RandomizedState(inner=None, drawn=drawn, symbol=symbol), fresh[-1]

    def _starting(self, state: RandomizedState, params: Any) -> Any:
        """`in_force`, with the market's range reduced to the starts that are wanted."""
        params = self.in_force(state, params)
        if params.starts is None:
            return params
        first, latest = params.starts[state.symbol]
        needed = 1 if self.config.episode_bars is None else params.max_steps_in_episode
        last = jnp.minimum(latest + needed, params.market.last)
        return params.replace(market=dataclasses.replace(params.market, first=first, last=last))

    # Key-free pieces.

    def initial_state(self, bar: Array, cash: Array, params: Any) -> Any:
        """A flat account with ``cash`` at execution bar ``bar``, under the configured values."""
        inner = self.env.initial_state(bar, cash, params)
        drawn = {name: getattr(params, name) for name in params.ranges}
        symbol = jnp.zeros((), jnp.int32)
        if params.spans is not None:
            symbol = jnp.sum(inner.bar >= params.spans.begin, dtype=jnp.int32) - 1
        return RandomizedState(inner=inner, drawn=drawn, symbol=symbol)

    def fresh_state(self, start_bits: Array, cash_draw: Array, params: Any) -> Any:
        """A start from supplied draws; everything but the cash comes from ``start_bits``."""
        state, bits = self._draw(start_bits, params)
        inner = self.env.fresh_state(bits, cash_draw, self._starting(state, params))
        return state.replace(inner=inner)

    def restarted(
        self,
        done: Array,
        state: Any,
        start_bits: Array,
        cash_draw: Array,
        params: Any,
    ) -> Any:
        """``state``, or where ``done`` the start of an episode with newly drawn values."""
        new, bits = self._draw(start_bits, params)
        inner, anew = state.inner, done
        if self.keeps_clock:
            # After ruin alone the account goes on in the same market, on the same terms.
            anew = done & self.is_truncated(state, params)
            own = self.in_force(state, params)
            inner = self.env.restarted(done & ~anew, inner, bits, cash_draw, own)
        inner = self._inmost.restarted(anew, inner, bits, cash_draw, self._starting(new, params))
        drawn, symbol = jax.tree.map(
            lambda a, b: jnp.where(anew, a, b), (new.drawn, new.symbol), (state.drawn, state.symbol)
        )
        return RandomizedState(inner=inner, drawn=drawn, symbol=symbol)

    def transition(self, state: Any, action: Array, draw: Array, params: Any) -> Transition:
        """One step under the episode's values."""
        own = self.in_force(state, params)
        inner, reward, terminated, info = self.env.transition(state.inner, action, draw, own)
        return state.replace(inner=inner), reward, terminated, info

    def observe(self, key: Array | None, state: Any, action: Any, params: Any) -> Any:
        """The observation of a state."""
        return self.env.observe(key, state.inner, action, self.in_force(state, params))

    def is_truncated(self, state: Any, params: Any) -> Array:
        """Whether time or the data of the episode's market ran out, bool ()."""
        return self.env.is_truncated(state.inner, self.in_force(state, params))

    def equity(self, state: Any, params: Any) -> Array:
        """Account value at the close of the newest bar, quote currency, ()."""
        return self.env.equity(state.inner, self.in_force(state, params))

    def account_state(self, state: Any, params: Any) -> Array:
        """The six account numbers as observed, float32 [6]; the leverage is the drawn one."""
        return self.env.account_state(state.inner, self.in_force(state, params))

    def observation_space(self, params: EnvParams | None = None) -> Any:
        """The environment's, with bars numbered over all markets."""
        return TradingEnv.observation_space(self, params)

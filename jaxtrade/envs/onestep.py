"""One decision, its bracket resolved over the bars that follow: `OneStepTradingEnv`."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxtrade.core import account as accounts
from jaxtrade.core import exits
from jaxtrade.core.account import Account
from jaxtrade.core.exits import Exit
from jaxtrade.core.fusion import fence
from jaxtrade.core.rules import slack
from jaxtrade.core.trade import Fill
from jaxtrade.envs import exit_search
from jaxtrade.envs.bracket import BracketTradingEnv, BracketTradingEnvConfig
from jaxtrade.envs.config import check_count
from jaxtrade.envs.onestep_reward import Ending, total_reward
from jaxtrade.envs.state import EnvParams, EnvState, record_of, where_active
from jaxtrade.market.market import Market
from jaxtrade.market.windows import execution_bar

Array = jax.Array

# The draw that prices a scored pair: the middle of the slippage range.
SCORE_DRAW = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneStepTradingEnvConfig(BracketTradingEnvConfig):
    """Configuration of `OneStepTradingEnv`: the fields of `BracketTradingEnvConfig` and these.

    Attributes:
      rollout_steps: bars a bracket is exposed to, >= 1; None = to the end of the data.
      close_at_horizon: close what is still open at the horizon as a market order; else it is
        marked to market, without an exit fee.
    """

    rollout_steps: int | None = 24
    close_at_horizon: bool = False

    @property
    def episode_bars(self) -> int | None:
        """Bars an episode may take; None = to the end of the data."""
        return self.rollout_steps

    def _check_length(self) -> None:
        check_count("rollout_steps", self.rollout_steps)


class Resolution(NamedTuple):
    """What became of one decision; leaves ().

    Attributes:
      opened: the account right after the order. fill: of the order.
      exposed: int32, bars the position was held for, 0 when none was opened.
      state: after the last bar. exit: of the bar that ended the position, or of the horizon.
      funding: paid over all bars. equity: at the last close. reward: sum over the bars.
      terminated: whether an exit, a wipe-out or a decision without a position ended the episode.
    """

    opened: Account
    fill: Fill
    exposed: Array
    state: EnvState
    exit: Exit
    funding: Array
    equity: Array
    reward: Array
    terminated: Array


class OneStepTradingEnv(BracketTradingEnv[OneStepTradingEnvConfig]):
    """Decide once, learn how the bracket ended: episodes of one step, for GRPO and bandits.

    - **Action**: ``Discrete(A)``, a row of ``action_table``; CLOSE acts as HOLD.
    - **Observation**, **state**, **parameters**: as `SequentialTradingEnvSLTP`, whose policies and
      bundles are exchangeable with this environment's.
    - **Reward**: the sum of ``config.reward`` over the bars until the bracket is resolved: with the
      default the log return of the whole trade. It is what `SequentialTradingEnvSLTP` with
      ``lock_position_until_sltp`` pays for the same entry, step by step.
    - **End**: always done. Terminated when an exit, a wipe-out, or a decision that opens nothing
      resolved the episode; truncated when ``rollout_steps`` bars or the data ended first. The step
      record tells the entry and the exit; ``bar`` is the last bar looked at.

    Example:
      >>> from jaxtrade import OneStepTradingEnv, OneStepTradingEnvConfig
      >>> from jaxtrade.market import datasets
      >>> env = OneStepTradingEnv(
      ...     datasets.load("eurusd_1h"),
      ...     OneStepTradingEnvConfig(stoploss_levels=(-0.002,), takeprofit_levels=(0.004,)),
      ... )
      >>> env.score([100, 200], [1, 1]).shape
      (2,)
    """

    config_class = OneStepTradingEnvConfig
    # Nothing that a value could stand for follows a decision, not even one that time cut.
    decides_once = True

    # One decision.

    def transition(
        self, state: EnvState, action: Array, draw: Array, params: EnvParams
    ) -> tuple[EnvState, Array, Array, dict[str, Array]]:
        """The whole episode (docs/semantics.md, "One-step environment"); see the base class.

        A finished episode stays as it is, and its reward is 0.
        """
        found = self.resolve(state, action, draw, params)
        info = record_of(found.fill, found.exit, found.funding, found.equity)
        return found.state, found.reward, found.terminated, info

    def is_truncated(self, state: EnvState, params: EnvParams) -> Array:
        """Whether the horizon came before the exit, bool ()."""
        return (state.account.quantity != 0) & ~self._wiped(self.equity(state, params), state)

    def resolve(self, state: EnvState, action: Array, draw: Array, params: EnvParams) -> Resolution:
        """Place the order at the state's bar and find out how the position ends.

        Args:
          state: fresh, leaves (). action: int32 (). draw: () uniform in [0, 1) that prices entry
            and exit.
        """
        market, rules = params.market, self.config.rules
        costs, terms = self._costs(params), self.terms(params)
        action = self._clamped(action, params)
        draw = draw.astype(params.fee.dtype)
        before = accounts.equity(state.account, state.price, terms)
        active = (state.time == 0) & (state.bar < market.last) & ~self._wiped(before, state)
        first = state.bar + active.astype(jnp.int32)
        next_open = execution_bar(market, first)[0]
        opened, fill = self._ordered(state, action, next_open, draw, active, costs, terms)
        opened = fence(opened, terms)

        is_open = active & (opened.quantity != 0)
        # A sweep may shorten the roll-out; what is searched is static.
        longest = self._longest(market)
        exposure = jnp.minimum(params.max_steps_in_episode, longest)
        horizon = jnp.minimum(state.bar + exposure, market.last)
        last, before_last = exit_search.last_bar(
            market,
            opened,
            state.bar + 1,
            horizon,
            terms,
            ruin=slack(before.dtype) * state.initial_equity,
            longest=longest,
        )
        last = jnp.where(is_open, last, first)
        before_last = jnp.where(is_open, before_last, 0)
        bar = execution_bar(market, last)
        account = dataclasses.replace(opened, cash=opened.cash - before_last)
        account, exit_ = exits.pass_bar(account, bar, draw, costs, terms, rules, active=is_open)
        paid = before_last
        if market.funding is not None:
            rate = jnp.where(active, market.funding[last], 0)
            account, funding = accounts.pay_funding(account, bar[3], rate)
            paid = paid + funding
        if self.config.close_at_horizon:
            account, exit_ = self._closed(account, exit_, bar[3], draw, is_open, params)

        equity = fence(accounts.equity(account, bar[3], terms), terms)
        exposed = jnp.where(is_open, last - state.bar, 0)
        held = account.quantity != 0
        account = dataclasses.replace(account, held_bars=jnp.where(held, exposed, 0))
        account = where_active(active, account, state.account)
        wiped = self._wiped(equity, state)
        ending = Ending(first, last, before_last, fill.executed, exit_, equity, wiped)
        reward, carry = total_reward(self._reward, state, opened, ending, terms, params)
        following = EnvState(
            time=state.time + active.astype(jnp.int32),
            bar=jnp.where(active, last, state.bar),
            price=jnp.where(active, bar[3], state.price),
            account=account,
            initial_equity=state.initial_equity,
            last_action=where_active(active, action, state.last_action),
            reward_carry=where_active(active, carry, state.reward_carry),
        )
        return Resolution(
            opened=opened,
            fill=fill,
            exposed=exposed,
            state=following,
            exit=exit_,
            funding=paid,
            equity=equity,
            reward=jnp.where(active, reward, 0),
            terminated=(account.quantity == 0) | wiped,
        )

    def _closed(
        self,
        account: Account,
        exit_: Exit,
        close: Array,
        draw: Array,
        is_open: Array,
        params: EnvParams,
    ) -> tuple[Account, Exit]:
        """What is still held at the horizon, closed; the exit is this one where it happens."""
        due = is_open & (account.quantity != 0)
        closed, at_horizon = exits.close_at_horizon(
            account,
            close,
            draw,
            self._costs(params),
            self.terms(params),
            self.config.rules,
            due=due,
        )
        return closed, where_active(due, at_horizon, exit_)

    def _longest(self, market: Market) -> int:
        """Most bars an episode can take; static."""
        bars = self.config.episode_bars
        return market.num_bars - 1 if bars is None else min(bars, market.num_bars - 1)

    # Many decisions at once.

    def score(self, bars: Any, actions: Any, params: EnvParams | None = None) -> Array:
        """Rewards of decisions, each from a flat account with the lowest initial cash, draw 0.5.

        Args:
          bars: whole numbers of execution bars, any shape that broadcasts with ``actions``.
          actions: indices of the action table.
          params: parameters; None = the environment's own.

        Returns: rewards in the run's float dtype, of the shape both broadcast to.

        Raises:
          ValueError: for a bar that no bar follows, or an action outside the table.
        """
        params = self.default_params if params is None else params
        last = int(params.market.last)
        if not isinstance(bars, jax.core.Tracer):
            given = np.atleast_1d(np.asarray(bars))
            bad = given[(given < 0) | (given >= last) | (given != np.floor(given))]
            if bad.size:
                raise ValueError(f"score: bar must be in [0, {last}); got {bad.flat[0]}.")
        self.check_action(actions)
        shape = np.broadcast_shapes(np.shape(bars), np.shape(actions))
        bars, actions = (
            jnp.broadcast_to(jnp.asarray(x, jnp.int32), shape).reshape(-1) for x in (bars, actions)
        )
        return self._score(bars, actions, params).reshape(shape)

    @partial(jax.jit, static_argnames=("self",))
    def _score(self, bars: Array, actions: Array, params: EnvParams) -> Array:
        return jax.vmap(self.score_one, in_axes=(0, 0, None))(bars, actions, params)

    def score_one(self, bar: Array, action: Array, params: EnvParams) -> Array:
        """`score` of one pair, unchecked; a pure function for use inside `jit`. All ()."""
        state = self.initial_state(bar, params.cash_low, params)
        draw = jnp.asarray(SCORE_DRAW, params.fee.dtype)
        return self.resolve(state, action, draw, params).reward

    def outcome_table(self, params: EnvParams | None = None, block: int = 8192) -> Array:
        """Reward of every action at every bar, [T, A]; NaN where no bar follows.

        With deterministic costs a decision's outcome depends on nothing else, so that training
        becomes a look-up. `score` gives the same numbers.

        Args:
          block: bars computed together; bounds the memory.

        Raises:
          ValueError: with slippage, since no outcome is certain then (unchecked inside `jit`).
        """
        params = self.default_params if params is None else params
        if not isinstance(params.slippage, jax.core.Tracer):
            largest = float(np.max(np.asarray(params.slippage)))
            if largest > 0:
                raise ValueError(
                    f"outcome_table: needs slippage 0, so that outcomes are certain; got "
                    f"{largest:g}. Use score."
                )
        return self._outcome_table(params, block)

    @partial(jax.jit, static_argnames=("self", "block"))
    def _outcome_table(self, params: EnvParams, block: int) -> Array:
        market = params.market
        actions = jnp.arange(self.num_actions, dtype=jnp.int32)

        def row(bar: Array) -> Array:
            scored = jax.vmap(self.score_one, in_axes=(None, 0, None))(bar, actions, params)
            return jnp.where(bar < market.last, scored, jnp.nan)

        bars = jnp.arange(market.num_bars, dtype=jnp.int32)
        return jax.lax.map(row, bars, batch_size=block)

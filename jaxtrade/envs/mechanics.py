"""One step of an environment without keys, without reset and without gymnax.

What learners, trace and evaluation build on. No trading rule is written here.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxtrade import rewards
from jaxtrade.core import account as accounts
from jaxtrade.core import exits, trade
from jaxtrade.core.account import Account
from jaxtrade.core.fusion import fence
from jaxtrade.core.rules import Costs, Terms, slack
from jaxtrade.envs.parameters import Config, Parametrised
from jaxtrade.envs.state import EnvParams, EnvState, record_of, where_active
from jaxtrade.market.windows import close_price, execution_bar

Array = jax.Array


class TradingMechanics(Parametrised[Config]):
    """The key-free pieces of an environment: pure functions of state, action, draws and parameters.

    A subclass says how its action becomes an order (`_decide`) and what its actions are.
    """

    def in_force(self, state: EnvState, params: EnvParams) -> EnvParams:
        """The parameters that hold for ``state``: the given ones, unless an episode has its own."""
        del state
        return params

    def initial_state(self, bar: Array, cash: Array, params: EnvParams) -> EnvState:
        """A flat account with ``cash`` at execution bar ``bar`` (int32); all leaves ()."""
        cash = jnp.asarray(cash, params.cash_low.dtype)
        bar = jnp.asarray(bar, jnp.int32)
        return EnvState(
            time=jnp.zeros((), jnp.int32),
            bar=bar,
            price=close_price(params.market, bar),
            account=Account.flat(cash),
            initial_equity=cash,
            last_action=jnp.zeros((), self._action_dtype(params)),
            reward_carry=self._reward.init(params),
        )

    def fresh_state(self, start_bits: Array, cash_draw: Array, params: EnvParams) -> EnvState:
        """A random start from supplied draws: uint32 bits and a uniform in [0, 1).

        Without ``random_start`` every episode starts at the first usable bar. Else the start is
        uniform in [first, last - 1], or [first, max(first, last - k)] when the configuration limits
        episodes to k bars (uniform to 2**-32 times the number of starts).
        """
        market, config = params.market, self.config
        bar = jnp.asarray(market.first, jnp.int32)
        if config.random_start:
            needed = 1 if config.episode_bars is None else params.max_steps_in_episode
            starts = jnp.maximum(market.last - market.first - needed, 0) + 1
            bar = bar + _multiply_high(start_bits, starts.astype(jnp.uint32)).astype(jnp.int32)
        low, high = params.cash_low, params.cash_high
        cash = low + cash_draw.astype(low.dtype) * (high - low)
        # Rounding must not reach the open end of the range.
        cash = jnp.where(low < high, jnp.minimum(cash, jnp.nextafter(high, low)), low)
        return self.initial_state(bar, cash, params)

    def restarted(
        self,
        done: Array,
        state: EnvState,
        start_bits: Array,
        cash_draw: Array,
        params: EnvParams,
    ) -> EnvState:
        """``state``, or a fresh one where ``done`` (bool ()); see `fresh_state` for the draws."""
        fresh = self.fresh_state(start_bits, cash_draw, params)
        following = jax.tree.map(lambda a, b: jax.lax.select(done, a, b), fresh, state)
        return following.replace(
            account=self._with_brackets_of(state.account, following.account),
            # Read at the bar selected: reading at every possible start costs a cache miss a lane.
            price=close_price(params.market, following.bar),
        )

    def transition(
        self, state: EnvState, action: Array, draw: Array, params: EnvParams
    ) -> tuple[EnvState, Array, Array, dict[str, Array]]:
        """One step without randomness or reset (docs/semantics.md, "One step, exact order").

        From the last bar, or from a wiped-out account, nothing happens: account and bar stay and
        the reward is 0.

        Args:
          state: leaves (). action: () of the action space; values outside are clamped.
          draw: () uniform in [0, 1) that prices this step's fills.

        Returns: next state, reward () in the run's float dtype, terminated () bool, and the step
          record (docs/semantics.md, "Records").
        """
        market, rules = params.market, self.config.rules
        costs, terms = self._costs(params), self.terms(params)
        action = self._clamped(action, params)
        draw = draw.astype(params.fee.dtype)
        account = state.account

        price_before = state.price
        equity_before = accounts.equity(account, price_before, terms)
        active = (state.bar < market.last) & ~self._wiped(equity_before, state)
        bar_index = state.bar + active.astype(jnp.int32)
        bar = execution_bar(market, bar_index)
        price_after = bar[3]

        equity_before = fence(equity_before, terms)
        account, fill = self._ordered(state, action, bar[0], draw, active, costs, terms)
        account = fence(account, terms)
        quantity = account.quantity
        account, exit_ = exits.pass_bar(
            account, bar, draw, costs, terms, rules, active=active, brackets=self.has_brackets
        )
        account = dataclasses.replace(account, cash=fence(account.cash, terms))
        funding = jnp.zeros_like(price_after)
        if market.funding is not None:
            rate = jnp.where(active, market.funding[bar_index], 0)
            account, funding = accounts.pay_funding(account, price_after, rate)
        account = self._settle(account, state.account, active)

        equity = fence(accounts.equity(account, price_after, terms), terms)
        wiped = self._wiped(equity, state)
        filled = fill.executed | (exit_.kind != exits.NO_EXIT)
        reward, reward_carry = self._reward.update(
            state.reward_carry,
            rewards.RewardInput(
                equity_before=equity_before,
                equity_after=equity,
                initial_equity=state.initial_equity,
                price_before=price_before,
                price_after=price_after,
                quantity=quantity,
                filled=filled,
                action_changed=(state.time > 0) & (action != state.last_action),
                wiped=wiped,
            ),
            params,
        )
        stepped = EnvState(
            time=state.time + active.astype(jnp.int32),
            bar=bar_index,
            price=price_after,
            account=account,
            initial_equity=state.initial_equity,
            last_action=where_active(active, action, state.last_action),
            reward_carry=where_active(active, reward_carry, state.reward_carry),
        )
        terminated = (equity < params.bankrupt_threshold * state.initial_equity) | wiped
        info = record_of(fill, exit_, funding, equity)
        return stepped, jnp.where(active, reward, 0), terminated, info

    def _ordered(
        self,
        state: EnvState,
        action: Array,
        next_open: Array,
        draw: Array,
        active: Array,
        costs: Costs,
        terms: Terms,
    ) -> tuple[Account, trade.Fill]:
        """Place the order of ``action``: the account before the next bar acts, and the fill."""
        blocked = ~active
        base = state.price
        if self.config.rules.fill_at == "next_open":
            base = next_open
            blocked = blocked | exits.liquidated_by(state.account, base, terms)
        order = self._decide(state.account, action, base, draw, costs, terms)
        account, fill = trade.apply(state.account, order, costs, terms, blocked=blocked)
        fill = dataclasses.replace(fill, event=jnp.where(active, fill.event, 0))
        return self._remember(account, action, fill), fill

    def equity(self, state: EnvState, params: EnvParams) -> Array:
        """Account value at the close of the newest bar, quote currency, ()."""
        return accounts.equity(state.account, state.price, self.terms(params))

    def account_state(self, state: EnvState, params: EnvParams) -> Array:
        """The six account numbers as observed, float32 [6] (`core.account.account_state`)."""
        values = accounts.account_state(state.account, state.price, self.terms(params))
        return values.astype(jnp.float32)

    def _settle(self, account: Account, before: Account, active: Array) -> Account:
        """Count the bar, and undo what a step that does nothing must not touch."""
        aged = accounts.age(account, before)
        return self._with_brackets_of(
            before,
            dataclasses.replace(
                aged,
                held_bars=jnp.where(active, aged.held_bars, before.held_bars),
                last_level=jnp.where(active, aged.last_level, before.last_level),
            ),
        )

    def _with_brackets_of(self, before: Account, account: Account) -> Account:
        """Pass leaves that this environment never writes through, so that loops need not."""
        if self.has_brackets:
            return account
        return dataclasses.replace(
            account, stop_price=before.stop_price, target_price=before.target_price
        )

    def _wiped(self, equity: Array, state: EnvState) -> Array:
        return equity <= slack(equity.dtype) * state.initial_equity

    # What a subclass supplies.

    @property
    def num_actions(self) -> int:
        """Number of discrete actions."""
        raise NotImplementedError

    has_brackets = False
    # Whether the action is a number in [-1, 1] instead of an index.
    continuous = False

    def action_description(self) -> dict[str, Any]:
        """What the actions mean, JSON-able: equal for environments whose policies are exchangeable.

        ``{"kind": "levels", "levels": [...]}``, ``{"kind": "continuous"}`` or
        ``{"kind": "brackets", "rows": [[side, stop, target], ...], "hash": ...}``, each with
        ``"spot"``.
        """
        raise NotImplementedError

    def action_for(self, side: int) -> int | float | None:
        """The action that asks for the largest position on ``side`` (+1 or -1), or for none (0).

        None where the environment has no such action.
        """
        raise NotImplementedError

    def _decide(
        self,
        account: Account,
        action: Array,
        base: Array,
        draw: Array,
        costs: Costs,
        terms: Terms,
    ) -> trade.Order:
        raise NotImplementedError

    def _remember(self, account: Account, action: Array, fill: trade.Fill) -> Account:
        """What the account keeps of an action once its order was carried out."""
        del action, fill
        return account

    def _clamped(self, action: Array, params: EnvParams) -> Array:
        return jnp.clip(jnp.asarray(action, jnp.int32), 0, self.num_actions - 1)

    def _action_dtype(self, params: EnvParams) -> Any:
        del params
        return jnp.int32


def _multiply_high(a: Array, b: Array) -> Array:
    """Upper 32 bits of the product of two uint32 arrays; maps uniform bits to [0, b) evenly."""
    half = jnp.uint32(0xFFFF)
    a_high, a_low, b_high, b_low = a >> 16, a & half, b >> 16, b & half
    middle = a_high * b_low + ((a_low * b_low) >> 16)
    return a_high * b_high + (middle >> 16) + ((a_low * b_high + (middle & half)) >> 16)

"""`check_env` passes on every registered environment and catches broken ones."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrade import SequentialTradingEnv, SequentialTradingEnvConfig, rewards
from jaxtrade.envs import REGISTRY, spaces
from jaxtrade.market import Market
from jaxtrade.testing import check_env
from tests.envs.builders import walk

FRAMES = {"time_frames": ("1min", "5min"), "window_sizes": (4, 2), "execute_on": "1min"}


@functools.cache
def market():
    frame = walk(240, 5, sigma=1e-2, gap=5e-3, funding=1e-3)
    return Market.from_frame(frame, **FRAMES)


# One observation of each environment is checked quickly, the others with the slow tests.
QUICK = {
    ("SequentialTradingEnv", "dict"),
    ("SequentialTradingEnvSLTP", "index"),
    ("OneStepTradingEnv", "flat"),
}


@pytest.mark.parametrize(
    ("name", "observation"),
    [
        pytest.param(
            name, observation, marks=() if (name, observation) in QUICK else pytest.mark.slow
        )
        for name in REGISTRY
        for observation in ("dict", "flat", "index")
    ],
)
def test_registered_environments_pass(name, observation):
    entry = REGISTRY[name]
    fields = {
        "dict": {"leverage": 5, "transaction_fee": 4e-4, "slippage": 1e-3},
        "flat": {"initial_cash": (500.0, 1500.0), "reward": "pnl"},
        "index": {"leverage": 3, "bankrupt_threshold": 0.6},
    }[observation]
    if observation == "index":
        length = "rollout_steps" if name == "OneStepTradingEnv" else "max_steps"
        fields[length] = 20
    config = entry.config(**FRAMES, observation=observation, **fields)
    check_env(entry.env(market(), config), key=jax.random.key(3))


@pytest.mark.slow
@pytest.mark.parametrize("reward", sorted(rewards.NAMES))
def test_every_reward_passes(reward):
    config = SequentialTradingEnvConfig(**FRAMES, observation="index", leverage=5, reward=reward)
    check_env(SequentialTradingEnv(market(), config))


@pytest.mark.slow
def test_float64_passes():
    with jax.enable_x64(True):
        check_env(build(SequentialTradingEnv, action="continuous", leverage=2))


def build(env, **fields):
    fields = {"observation": "index", **fields}
    return env(market(), SequentialTradingEnvConfig(**FRAMES, **fields))


# Broken environments: each with one fault, and what the message must say.


class LeaksNextClose(SequentialTradingEnv):
    def observe(self, key, state, action, params):
        observation = super().observe(key, state, action, params)
        ahead = params.market.ohlcv[jnp.minimum(state.bar + 1, params.market.last), 3]
        account_state = observation["account_state"].at[2].set(ahead.astype(jnp.float32))
        return {**observation, "account_state": account_state}


class LeaksWindow(SequentialTradingEnv):
    """Windows that end one bar late."""

    def observe(self, key, state, action, params):
        bar = jnp.minimum(state.bar + 1, params.market.last)
        return super().observe(key, state.replace(bar=bar), action, params)


class TradesOnTheFuture(SequentialTradingEnv):
    """The whole series scales the quantity."""

    def transition(self, state, action, draw, params):
        out = super().transition(state, action, draw, params)
        mean = params.market.ohlcv[:, 3].mean()
        return (out[0], out[1] + (mean - mean.round()) * (out[1] != 0), *out[2:])


class ObservesFloat64Shape(SequentialTradingEnv):
    """The shape of the account is not that of the space."""

    def observe(self, key, state, action, params):
        observation = super().observe(key, state, action, params)
        return {**observation, "account_state": observation["account_state"][:5]}


class ObservesIntegers(SequentialTradingEnv):
    def observe(self, key, state, action, params):
        observation = super().observe(key, state, action, params)
        return {**observation, "account_state": observation["account_state"].astype(jnp.int32)}


class WeakState(SequentialTradingEnv):
    """A Python number as a leaf of the first state."""

    def fresh_state(self, start_bits, cash_draw, params):
        state = super().fresh_state(start_bits, cash_draw, params)
        return state.replace(time=jnp.asarray(0.0))


class WeakReward(SequentialTradingEnv):
    def transition(self, state, action, draw, params):
        out = super().transition(state, action, draw, params)
        return (out[0], jnp.float16(1.0) * out[1].astype(jnp.float16), *out[2:])


class TimeLimitTerminates(SequentialTradingEnv):
    def transition(self, state, action, draw, params):
        after, reward, terminated, info = super().transition(state, action, draw, params)
        return after, reward, terminated | (after.time >= params.max_steps_in_episode), info


class DataEndTerminates(SequentialTradingEnv):
    def transition(self, state, action, draw, params):
        after, reward, terminated, info = super().transition(state, action, draw, params)
        return after, reward, terminated | (after.bar >= params.market.last), info


class IgnoresTheTimeLimit(SequentialTradingEnv):
    def is_truncated(self, state, params):
        return state.bar >= params.market.last


class OneStepTooMany(SequentialTradingEnv):
    def is_truncated(self, state, params):
        out_of_time = state.time > params.max_steps_in_episode
        return out_of_time | (state.bar >= params.market.last)


class RunsPastTheData(SequentialTradingEnv):
    def is_truncated(self, state, params):
        return state.time >= params.max_steps_in_episode


class StartsAtTheLastBar(SequentialTradingEnv):
    def fresh_state(self, start_bits, cash_draw, params):
        state = super().fresh_state(start_bits, cash_draw, params)
        bar = jnp.where(start_bits % 4 == 0, params.market.last, state.bar)
        return self.initial_state(bar, state.initial_equity, params)


class OneStart(SequentialTradingEnv):
    def fresh_state(self, start_bits, cash_draw, params):
        return super().fresh_state(start_bits * 0, cash_draw, params)


class OneCash(SequentialTradingEnv):
    def fresh_state(self, start_bits, cash_draw, params):
        return super().fresh_state(start_bits, cash_draw * 0, params)


class PaysAtTheEnd(SequentialTradingEnv):
    def transition(self, state, action, draw, params):
        after, reward, terminated, info = super().transition(state, action, draw, params)
        return after, jnp.where(after.bar == state.bar, 1.0, reward), terminated, info


class NotANumber(SequentialTradingEnv):
    def observe(self, key, state, action, params):
        observation = super().observe(key, state, action, params)
        held = observation["account_state"][1]
        account_state = observation["account_state"].at[2].set(held / held)
        return {**observation, "account_state": account_state}


class NoReset(SequentialTradingEnv):
    """A done step returns the last state instead of a new episode."""

    def step(self, key, state, action, params=None):
        params = self.default_params if params is None else params
        key_step, _ = jax.random.split(key)
        final, after, reward, terminated, info = self.step_env(key_step, state, action, params)
        truncated = self.is_truncated(after, params)
        ends = {"terminated": terminated, "truncated": truncated, "final_observation": final}
        return final, after, reward, terminated, truncated, {**info, **ends}


class FinalObservationAfterReset(SequentialTradingEnv):
    def step(self, key, state, action, params=None):
        *rest, info = super().step(key, state, action, params)
        return (*rest, {**info, "final_observation": rest[0]})


class NoFinalObservation(SequentialTradingEnv):
    def step(self, key, state, action, params=None):
        *rest, info = super().step(key, state, action, params)
        info.pop("final_observation")
        return (*rest, info)


class OtherKeys(SequentialTradingEnv):
    """An own step that uses the key in another way than gymnax."""

    def step(self, key, state, action, params=None):
        return super().step(jax.random.fold_in(key, 1), state, action, params)


class DrawsFromNumPy(SequentialTradingEnv):
    """Every trace has another number in it."""

    def transition(self, state, action, draw, params):
        noise = np.random.default_rng().uniform()
        return super().transition(state, action, draw * 0 + noise, params)


class ReadsItsOwnFee(SequentialTradingEnv):
    def transition(self, state, action, draw, params):
        fee = jnp.full_like(params.fee, self.config.transaction_fee)
        return super().transition(state, action, draw, params.replace(fee=fee))


class CannotBeSwept(SequentialTradingEnv):
    """A decision in Python about a parameter."""

    def transition(self, state, action, draw, params):
        if params.fee > 0.5:
            raise ValueError("too dear")
        return super().transition(state, action, draw, params)


class KeepsItsMarket(SequentialTradingEnv):
    """Prices of the environment, whatever the parameters say."""

    def transition(self, state, action, draw, params):
        own = self.market.to_device(params.fee.dtype)
        own = dataclasses.replace(own, last=params.market.last)
        return super().transition(state, action, draw, params.replace(market=own))


class ClampsNothing(SequentialTradingEnv):
    def _clamped(self, action, params):
        return jnp.asarray(action, jnp.int32) % self.num_actions


class RefusesNothing(SequentialTradingEnv):
    def check_action(self, action):
        pass


class CannotBePickled(SequentialTradingEnv):
    def __init__(self, *given):
        super().__init__(*given)
        self.helper = lambda: None


class SmallActionSpace(SequentialTradingEnv):
    def action_space(self, params=None):
        return spaces.Discrete(2)


# Most of the time goes into compiling them; the quick ones stand for every kind of check.
SLOW = pytest.mark.slow
BROKEN = [
    (LeaksNextClose, "looks ahead", {"slippage": 1e-3}),
    pytest.param(LeaksWindow, "looks ahead", {"observation": "flat"}, marks=SLOW),
    pytest.param(TradesOnTheFuture, "looks ahead", {}, marks=SLOW),
    (ObservesFloat64Shape, r"account_state.*float32\[6\]; got float32\[5\]", {}),
    (ObservesIntegers, r"account_state.*float32\[6\]; got int32\[6\]", {}),
    (WeakState, r"time: expected float32\[\] \(weakly typed", {}),
    (WeakReward, r"reward: expected float32\[\]; got float16", {}),
    (TimeLimitTerminates, "reported by is_truncated, never by terminated", {}),
    (DataEndTerminates, "terminated at the last bar", {}),
    pytest.param(
        IgnoresTheTimeLimit, "truncated after 1 of 1 transitions: expected True", {}, marks=SLOW
    ),
    pytest.param(OneStepTooMany, "exactly K transitions", {}, marks=SLOW),
    pytest.param(
        RunsPastTheData, "the end of the data is reported by is_truncated", {}, marks=SLOW
    ),
    (StartsAtTheLastBar, "at least one transition", {}),
    pytest.param(OneStart, "starts of 64 keys: expected different", {}, marks=SLOW),
    pytest.param(
        OneCash,
        "cash of 64 keys: expected different",
        {"initial_cash": (1000.0, 2000.0)},
        marks=SLOW,
    ),
    pytest.param(PaysAtTheEnd, "reward of step_env from the last bar: expected 0", {}, marks=SLOW),
    (NotANumber, r"got \[ 0\.  0\. nan  0\.  1\.  1\.\]", {}),
    (NoReset, "first observation and state of the next episode", {}),
    (FinalObservationAfterReset, "final_observation", {}),
    pytest.param(
        NoFinalObservation, "info of step 0: expected the key 'final_observation'", {}, marks=SLOW
    ),
    pytest.param(OtherKeys, "first observation and state of the next episode", {}, marks=SLOW),
    (DrawsFromNumPy, "step_env's|draw from the key only", {"slippage": 0.01}),
    pytest.param(ReadsItsOwnFee, "read params, never the configuration", {}, marks=SLOW),
    (CannotBeSwept, "Python|traced|bool", {}),
    pytest.param(KeepsItsMarket, "read params.market|looks ahead", {}, marks=SLOW),
    pytest.param(
        ClampsNothing, "clamp the action", {"action_levels": (0, 0.25, 0.5, 1)}, marks=SLOW
    ),
    pytest.param(RefusesNothing, "in check mode: expected a ValueError", {}, marks=SLOW),
    pytest.param(CannotBePickled, "pickle of the environment", {}, marks=SLOW),
    pytest.param(SmallActionSpace, "num_actions", {}, marks=SLOW),
]


def names(value):
    return value.__name__ if isinstance(value, type) else ""


@pytest.mark.parametrize(("env", "message", "fields"), BROKEN, ids=names)
def test_broken_environments_are_caught(env, message, fields):
    with pytest.raises(
        (AssertionError, jax.errors.TracerBoolConversionError), match=message
    ) as caught:
        check_env(build(env, **fields))
    if env is not CannotBeSwept:
        assert str(caught.value).startswith("check_env: ")


class Promoting(SequentialTradingEnv):
    """Under a time limit of its own the state changes its dtype: `step` is compiled twice."""

    def step(self, key, state, action, params=None):
        observation, after, *rest = super().step(key, state, action, params)
        return observation, after.replace(last_action=after.last_action.astype(jnp.int8)), *rest


@pytest.mark.slow
def test_a_second_trace_is_caught():
    with pytest.raises(AssertionError, match="check_env: "):
        check_env(build(Promoting))


def test_other_things_are_refused():
    import gymnax

    env, _ = gymnax.make("CartPole-v1")
    with pytest.raises(
        AssertionError, match=r"expected a jaxtrade\.envs\.TradingEnv; got CartPole"
    ):
        check_env(env)
    short = Market.from_frame(walk(12), **FRAMES)
    env = SequentialTradingEnv(short, SequentialTradingEnvConfig(**FRAMES))
    with pytest.raises(AssertionError, match="market: expected 10 usable bars; got 3"):
        check_env(env)

"""Every learner finds a planted signal and stays flat where there is none.

Minute bars whose volume tells the direction of the next bar, and the same prices without it; both
cost 0.1 % per order and its notional. Four seeds of each learner learn side by side on the first
three quarters of the bars and are judged by one deterministic pass over the last. The tolerances
are those of the four seeds used here; the worst of them must pass.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from agents import a2c, dqn, evaluate, iql, ppo, recorded, sac
from agents import learner as learning
from agents.networks import Normalizer
from jaxtrade import SequentialTradingEnv, SequentialTradingEnvConfig, baselines
from jaxtrade.market import synthetic

ROWS = 3000
DRIFT = 0.004
SEEDS = 4
SMALL: dict[str, Any] = {
    "learning_rate": 3e-3,
    "gamma": 0.9,
    "num_envs": 32,
    "hidden_sizes": (16,),
    "activation": "tanh",
}


def frame(drift: float) -> pd.DataFrame:
    """Minute bars; each moves ``drift`` in the direction that the volume before it told."""
    bars = synthetic.minutes(5, ROWS, volatility=0.001)
    signal = np.random.default_rng(6).choice([-1.0, 1.0], ROWS)
    moves = drift * np.concatenate([[0.0], signal[:-1]])
    # No drift by chance: holding is worth nothing.
    moves -= (moves.sum() + np.log(bars["close"].iloc[-1] / bars["open"].iloc[0])) / ROWS
    factor = np.exp(np.cumsum(moves))
    close = bars["close"] * factor
    opening = close.shift(1, fill_value=bars["open"].iloc[0])
    return bars.assign(
        open=opening,
        high=np.maximum(np.maximum(opening, close), bars["high"] * factor),
        low=np.minimum(np.minimum(opening, close), bars["low"] * factor),
        close=close,
        volume=2.0 + signal,
    )


def told(bars: Any) -> pd.DataFrame:
    """The one feature: -1 or 1 by the volume."""
    return pd.DataFrame({"feature_told": bars["volume"] - 2.0})


class Markets(NamedTuple):
    """An environment, and the (training, held-out) ranges of both markets."""

    env: SequentialTradingEnv
    planted: tuple[Any, Any]
    walk: tuple[Any, Any]


def charged(carry: Any, x: Any, params: Any) -> tuple[Any, Any]:
    """Reward: the log return less 0.3 % of the position, so that holding costs as well."""
    exposure = jnp.abs(x.quantity) * x.price_before / x.equity_before
    return jnp.log(x.equity_after / x.equity_before) - 0.003 * exposure, carry


def markets_of(action: str, reward: Any = "log_return") -> Markets:
    """Two markets of the same shape: each compiled function serves both."""
    config = SequentialTradingEnvConfig(
        time_frames="1min",
        window_sizes=1,
        execute_on="1min",
        features=told,
        leverage=2,
        action=action,
        action_levels=(-0.5, 0.0, 0.5),
        transaction_fee=0.001,
        max_steps=64,
        reward=reward,
        observation="index",
    )
    planted, walk = (SequentialTradingEnv(frame(drift), config) for drift in (DRIFT, 0.0))
    date = frame(0.0)["timestamp"].iloc[ROWS * 3 // 4]
    return Markets(planted, planted.market.split(date), walk.market.split(date))


@pytest.fixture(scope="module")
def markets() -> Markets:
    return markets_of("discrete")


class Subject(NamedTuple):
    """A learner, its settings, and how many chunks of 10 updates it is given."""

    kind: Any
    config: Any
    chunks: int


REPLAY = {
    **SMALL,
    "rollout_steps": 8,
    "replay_capacity": 20_000,
    "batch_size": 256,
    "gradient_steps": 8,
    "target_rate": 0.05,
}
PPO = ppo.PPOConfig(**SMALL, rollout_steps=32, minibatches=2)
STRETCHES = {"channels": (16,), "width": 1, "memory": 1, "rollout": "segments"}
SUBJECTS = {
    "ppo": Subject(ppo.PPO, PPO, 4),
    "ppo, stretches": Subject(ppo.PPO, PPO.replace(encoder="conv", **STRETCHES), 4),
    "ppo, recurrent": Subject(ppo.PPO, PPO.replace(encoder="recurrent", **STRETCHES), 4),
    "ppo, bfloat16": Subject(ppo.PPO, PPO.replace(precision="bfloat16"), 4),
    "a2c": Subject(ppo.PPO, a2c.A2CConfig(**{**SMALL, "learning_rate": 1e-2}, rollout_steps=32), 6),
    "dqn": Subject(dqn.DQN, dqn.DQNConfig(**REPLAY, exploration_steps=10_000), 10),
    "sac": Subject(sac.SAC, sac.SACConfig(**REPLAY), 10),
    "iql": Subject(
        iql.IQL,
        iql.IQLConfig(**SMALL, batch_size=256, gradient_steps=8, target_rate=0.05),
        10,
    ),
}
RANDOM = baselines.random(3)


def learn(learner: Any, subject: Subject, env: SequentialTradingEnv, market: Any) -> Any:
    """Variables of the policies [K] that learnt on a range."""
    params = env.params(market)
    if subject.kind is iql.IQL:
        key = jax.random.key(3)
        params = recorded.play(env, RANDOM, params, key, num_envs=64, steps=128)
    traced = subject.config.traced()
    keys = jax.vmap(jax.random.key)(jnp.arange(SEEDS))
    state = learning.start(learner, keys, traced, params, Normalizer.fit(market))
    for _ in range(subject.chunks):
        state, metrics = learning.train_chunk(state, traced, params, learner=learner, length=10)
        assert int(metrics["nonfinite_losses"].sum()) == 0
    return evaluate.variables_of(state)


def judged(
    env: SequentialTradingEnv, choose: Any, variables: Any, market: Any, draws: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """Log return and mean exposure (position over equity) of every policy, [K] each."""
    records = evaluate.run(env, choose, variables, market=market, draws=draws)
    returns = [np.log(one["equity"][-1] / one["equity"][0]) for one in records]
    exposures = [one["account_state"][:, 0].mean() for one in records]
    return np.array(returns), np.array(exposures)


@pytest.fixture(scope="module")
def at_random(markets: Markets) -> tuple[float, float]:
    """Mean log return of random actions on the held-out range of both markets."""
    draws = evaluate.random_draws(0, 8, markets.planted[1])
    rule = evaluate.RulePolicy(RANDOM)
    planted, walk = (
        float(judged(markets.env, rule, None, test, draws)[0].mean())
        for test in (markets.planted[1], markets.walk[1])
    )
    return planted, walk


@pytest.fixture(scope="module")
def best(markets: Markets) -> float:
    """Log return on the held-out range of the rule that knows the signal."""

    def rule(observation: Any, draw: Any) -> Any:
        told = observation["market_data_1Minute"][..., -1, 0]
        return jnp.where(told > 0, 2, 0).astype(jnp.int32)

    return float(judged(markets.env, evaluate.RulePolicy(rule), None, markets.planted[1])[0][0])


def check(
    markets: Markets,
    subject: Subject,
    best: float,
    at_random: tuple[float, float],
) -> None:
    """Learn on both markets and compare every seed with the best and with random actions."""
    env = markets.env
    learner = subject.kind.create(env, subject.config)
    policy = evaluate.NetworkPolicy(learner.network, continuous=env.continuous)
    train, test = markets.planted
    found, _ = judged(env, policy, learn(learner, subject, env, train), test)
    assert found.min() > 0.8 * best > 0 > at_random[0]
    train, test = markets.walk
    found, exposure = judged(env, policy, learn(learner, subject, env, train), test)
    # Random actions pay away half of the account and more.
    assert at_random[1] < -0.5
    assert found.min() > -0.05
    assert exposure.max() < 0.1


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "ppo" else pytest.mark.slow) for name in SUBJECTS],
)
def test_a_signal_is_found_and_its_absence_too(
    markets: Markets, best: float, at_random: tuple[float, float], name: str
) -> None:
    check(markets, SUBJECTS[name], best, at_random)


@pytest.mark.slow
def test_stretches_and_steps_learn_equally_fast(markets: Markets) -> None:
    env, (train, _) = markets.env, markets.planted
    curves = []
    for view in ("steps", "segments"):
        config = PPO.replace(encoder="conv", **{**STRETCHES, "rollout": view})
        learner = ppo.PPO.create(env, config)
        keys = jax.vmap(jax.random.key)(jnp.arange(2 * SEEDS))
        params, traced = env.params(train), config.traced()
        state = learning.start(learner, keys, traced, params, Normalizer.fit(train))
        _, metrics = learning.train_chunk(state, traced, params, learner=learner, length=40)
        # Reward per step: both count the same steps, though episodes end elsewhere.
        growth = np.asarray(metrics["reward_sum"] / metrics["steps"])
        curves.append(growth.reshape(8, 5, -1).mean(1))  # [8, K]
    steps, stretches = curves
    noise = np.sqrt((steps.var(1, ddof=1) + stretches.var(1, ddof=1)) / (2 * SEEDS))
    assert (np.abs(steps.mean(1) - stretches.mean(1)) < 4 * noise).all()
    # The test can fail: what is learnt is far above the noise.
    assert (steps.mean(1)[-1] - steps.mean(1)[0]) > 20 * noise[0]


@pytest.mark.slow
def test_a_signal_is_found_by_numbers_and_its_absence_too(
    best: float, at_random: tuple[float, float]
) -> None:
    # With orders alone to pay for, a level that is kept for ever is nearly as good as none, and a
    # policy of numbers may end near -1 or 1. Where holding costs as well, flat is best.
    markets = markets_of("continuous", (lambda params: (), charged))
    check(markets, SUBJECTS["sac"]._replace(chunks=20), best, at_random)

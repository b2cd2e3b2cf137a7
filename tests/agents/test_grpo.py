"""Groups judge their members: what must hold of them, and what is learnt from them.

Probes whose reward no action changes (a constant one, one that is only observed, one that comes
late) say nothing about actions, and there is no critic to learn their values: here they must leave
the policy as it is. The others must be solved, a late reward of an early action among them.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import evaluate, groups, grpo, losses, outcomes, policies
from agents import learner as learning
from agents.networks import Normalizer
from agents.summary import summarize
from jaxtrade import (
    OneStepTradingEnv,
    OneStepTradingEnvConfig,
    SequentialTradingEnv,
    SequentialTradingEnvSLTP,
    SequentialTradingEnvSLTPConfig,
    baselines,
)
from jaxtrade.bundle import Bundle
from tests.agents import probes, solving
from tests.agents.conftest import config as trading
from tests.agents.conftest import hours
from tests.agents.test_learning import DRIFT, ROWS, frame, told

CONFIG = grpo.GRPOConfig(
    learning_rate=5e-3,
    num_envs=64,
    group_size=4,
    epochs=2,
    minibatches=2,
    hidden_sizes=(32,),
    activation="tanh",
)


# Groups -----------------------------------------------------------------------------------------

RETURNS = jnp.array([[1.0, 2.0, 3.0, 6.0], [0.5, 0.5, 0.5, 0.5], [-2.0, 0.0, 0.0, 1.0]])
OPTIONS = [(b, s) for b in losses.BASELINES for s in losses.SCALES]


@pytest.mark.parametrize(("baseline", "scale"), OPTIONS)
def test_a_constant_added_to_a_group_changes_nothing(baseline: str, scale: str) -> None:
    found, differs = losses.group_advantage(RETURNS, 0.25, baseline, scale)
    shifted, _ = losses.group_advantage(
        RETURNS + jnp.array([[4.0], [-3.0], [0.25]]), 0.25, baseline, scale
    )
    np.testing.assert_allclose(shifted, found, atol=1e-6)
    assert differs.tolist() == [True, False, True]
    assert found[1].tolist() == [0, 0, 0, 0]
    assert bool((found[0] != 0).any())


@pytest.mark.parametrize(("baseline", "scale"), OPTIONS)
def test_members_have_no_order(baseline: str, scale: str) -> None:
    order = jnp.array([2, 0, 3, 1])
    found, _ = losses.group_advantage(RETURNS, 0.25, baseline, scale)
    permuted, _ = losses.group_advantage(RETURNS[:, order], 0.25, baseline, scale)
    np.testing.assert_allclose(permuted, found[:, order], atol=1e-6)


def test_advantages_by_hand() -> None:
    group = RETURNS[:1]  # mean 3, of the others of the last one 2; variance (4 + 1 + 0 + 9) / 4
    found = {
        option: np.asarray(losses.group_advantage(group, 0.25, *option)[0][0]) for option in OPTIONS
    }
    np.testing.assert_allclose(found["mean", "none"], [-2, -1, 0, 3], atol=1e-6)
    np.testing.assert_allclose(found["leave_one_out", "none"][-1], 6 - 2, atol=1e-6)
    np.testing.assert_allclose(found["mean", "std"], np.array([-2, -1, 0, 3]) / np.sqrt(3.5), 1e-5)
    both, _ = losses.group_advantage(RETURNS, 0.25, "mean", "batch")
    spread = np.sqrt(np.asarray(RETURNS).var(axis=1).mean())
    np.testing.assert_allclose(both[0], np.array([-2, -1, 0, 3]) / spread, rtol=1e-5)


def test_shares_weigh_the_members() -> None:
    share = jnp.array([[0.7, 0.1, 0.1, 0.1]])
    found, _ = losses.group_advantage(RETURNS[:1], share, "mean", "none")
    np.testing.assert_allclose((share * found).sum(), 0, atol=1e-6)
    np.testing.assert_allclose(found[0], np.asarray(RETURNS[0]) - 1.8, atol=1e-6)


def test_returns_without_spread_in_rounding_or_value_teach_nothing() -> None:
    # Their mean is not exactly 0.1 in float32; divided by next to nothing it would count.
    same = jnp.full((1, 7), 0.1, jnp.float32)
    for scale in losses.SCALES:
        found, differs = losses.group_advantage(same, 1 / 7, "mean", scale)
        assert not differs[0]
        assert (found == 0).all()


# The update -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> Any:
    """A sequential environment with costs whose episodes end within the rollout or not."""
    env = SequentialTradingEnv(hours(), trading(max_steps=5))
    settings = CONFIG.replace(rollout_steps=7, num_envs=32, gamma=0.9)
    learner = grpo.GRPO.create(env, settings)
    return env, settings, learner, env.default_params, Normalizer.fit(env.market)


def update(small: Any) -> Any:
    _, settings, learner, params, normalizer = small
    state = learning.start(learner, jax.random.key(0), settings.traced(), params, normalizer)
    return learning.train_chunk(state, settings.traced(), params, learner=learner, length=2)


def test_the_first_minibatch_sees_the_policy_that_acted(small: Any) -> None:
    _, metrics = update(small)
    assert float(metrics["first_ratio_deviation_max"].max()) < 1e-5
    summary = summarize(metrics)
    assert summary["nonfinite"] == 0
    assert 0 < summary["entropy"] <= np.log(5) + 1e-6
    assert summary["episodes"] == 2 * 32
    assert summary["steps"] == 2 * 32 * 5  # what comes after the fifth step is not counted
    assert 0 <= summary["groups_alike"] < 1
    np.testing.assert_allclose(summary["action_share"].sum(), 1, rtol=1e-6)


def test_a_group_is_its_members_stepped_alone(small: Any) -> None:
    _, _, learner, params, _ = small
    draws = groups.Draws.of(jax.random.key(1), 7, 3, 4)

    def act(market: Any, account: Any) -> Any:
        phase = market["bar"].astype(jnp.float32)[:, None, None] + account[..., 1:2]
        logs = jax.nn.log_softmax(jnp.sin(phase * jnp.arange(1, 6)))
        return logs, logs - 1

    batch, metrics = jax.jit(
        lambda draws, params: groups.collect(learner.env, draws, params, act, 0.9)
    )(draws, params)
    advance = jax.jit(learner.env.transition)
    finals, trades = [], 0
    for group in range(3):
        start = learner.env.fresh_state(draws.start[group], draws.cash[group], params)
        for member in range(4):
            state, total, plain, running = start, 0.0, 0.0, True
            for step in range(7):
                if not running:
                    assert float(batch.weight[step, group, member]) == 0
                    continue
                assert float(batch.weight[step, group, member]) == 1
                assert int(batch.market["bar"][step, group]) == int(state.bar)
                np.testing.assert_allclose(
                    batch.account[step, group, member],
                    learner.env.account_state(state, params),
                    atol=1e-6,
                )
                action = batch.action[step, group, member]
                state, reward, terminated, info = advance(
                    state, action, draws.cost[step, group], params
                )
                total += 0.9**step * float(reward)
                plain += float(reward)
                trades += int(info["event"]) // 2 % 2
                running = not (terminated or learner.env.is_truncated(state, params))
            finals.append(plain)
            np.testing.assert_allclose(batch.returns[group, member], total, atol=1e-6)
    np.testing.assert_allclose(batch.reference, batch.log_probability - 1, atol=1e-6)
    np.testing.assert_allclose(metrics["return_sum"], sum(finals), atol=1e-5)
    assert int(metrics["trades"]) == trades
    assert int(metrics["episodes"]) == int(metrics["truncations"]) == 12


def test_permuting_members_changes_no_gradient(small: Any) -> None:
    _, settings, learner, params, normalizer = small
    state = learning.start(learner, jax.random.key(0), settings.traced(), params, normalizer)
    draws = groups.Draws.of(jax.random.key(2), 7, 8, 4)
    order = jnp.array([3, 1, 0, 2])

    @jax.jit
    def learnt(draws: Any) -> Any:
        def act(market: Any, account: Any) -> Any:
            logs = learner.log_probabilities(state.params, market, account, params)
            return logs, logs

        batch, _ = groups.collect(learner.env, draws, params, act, 1.0)
        advantage, _ = losses.group_advantage(batch.returns, batch.share, "mean", "std")
        return learner._learn(
            state, settings.traced(), params, batch, advantage, jax.random.key(3)
        )[0]

    near = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5)  # noqa: E731
    found = learnt(draws)
    jax.tree.map(near, learnt(draws._replace(action=draws.action[:, :, order])), found)
    before = state.params["policy_head"]["kernel"]
    assert float(jnp.abs(found["policy_head"]["kernel"] - before).max()) > 1e-4


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(ValueError, match="group_size: must be >= 2, was 1: a member is judged by"):
        CONFIG.replace(group_size=1).check()
    with pytest.raises(ValueError, match=r"num_envs: must be a multiple of group_size \(4\)"):
        CONFIG.replace(num_envs=6).check()
    with pytest.raises(ValueError, match="minibatches: must divide the 16 groups, was 3"):
        CONFIG.replace(minibatches=3).check()
    enumerated = CONFIG.replace(sampling="enumerate")
    with pytest.raises(ValueError, match='"enumerate" is for one decision'):
        enumerated.replace(rollout_steps=2).check()
    with pytest.raises(ValueError, match='baseline: must be "mean"'):
        enumerated.replace(baseline="leave_one_out").check()
    with pytest.raises(ValueError, match=r"group_size: must be the number of actions \(2\)"):
        grpo.GRPO.create(probes.Probe(), enumerated)
    with pytest.raises(ValueError, match='outcomes: "table" needs OneStepTradingEnv, was Probe'):
        grpo.GRPO.create(probes.Probe(), CONFIG.replace(outcomes="table"))
    with pytest.raises(ValueError, match="discrete"):
        grpo.GRPO.create(SequentialTradingEnv(hours(100), trading(action="continuous")), CONFIG)


# Probes -----------------------------------------------------------------------------------------

LEARNERS: dict[Any, grpo.GRPO] = {}


def probabilities(
    kind: probes.Kind, settings: grpo.GRPOConfig, updates: int = 40, probe: Any = probes.Probe
) -> np.ndarray:
    """Chances [B, 2] of the actions where a probe shows 1 and -1."""
    static = (settings.rollout_steps, settings.sampling, settings.scale, settings.baseline, probe)
    learner = LEARNERS.setdefault(static, grpo.GRPO.create(probe(), settings))
    state = solving.on_probe(learner, settings, kind, updates)
    logits, _ = solving.outputs(learner.network, state.params)
    return np.asarray(jax.nn.softmax(jnp.asarray(logits)))


VARIANTS: list[dict[str, Any]] = [
    {},
    {"rollout_steps": 3},
    {"baseline": "leave_one_out", "scale": "none"},
    {"sampling": "enumerate", "group_size": 2},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_the_action_is_conditioned_on_the_observation(changes: dict[str, Any]) -> None:
    found = probabilities(probes.MATCH, CONFIG.replace(**changes))
    assert found[0, 1] > 0.95
    assert found[1, 0] > 0.95


@pytest.mark.parametrize("changes", VARIANTS[:2], ids=str)
def test_the_paying_action_is_picked(changes: dict[str, Any]) -> None:
    assert probabilities(probes.ACTION, CONFIG.replace(**changes))[:, 1].min() > 0.95


class Later(probes.Probe):
    """Two steps: the second pays 1 if the first action matched what was shown then, else -1."""

    def transition(self, state: Any, action: Any, draw: Any, params: Any) -> Any:
        matched = (action == 1) == (state.shown > 0)
        first = state.time == 0
        reward = jnp.where(first, 0, state.shown)
        shown = jnp.where(first, jnp.where(matched, 1.0, -1.0), state.shown)
        stepped = state.replace(time=state.time + 1, shown=shown.astype(jnp.float32))
        return stepped, reward, stepped.time >= 2, {}


def test_a_late_reward_reaches_the_action_that_earned_it() -> None:
    found = probabilities(probes.MATCH, CONFIG.replace(rollout_steps=3), probe=Later)
    assert found[0, 1] > 0.95
    assert found[1, 0] > 0.95


@pytest.mark.parametrize(
    "kind", [probes.CONSTANT, probes.OBSERVED, probes.DELAYED, probes.CUT], ids=str
)
def test_rewards_that_no_action_changes_teach_nothing(kind: probes.Kind) -> None:
    settings = CONFIG.replace(rollout_steps=3)
    static = (3, "members", "std", "mean", probes.Probe)
    learner = LEARNERS.setdefault(static, grpo.GRPO.create(probes.Probe(), settings))
    params = probes.params_of(kind)
    begin = learning.start(learner, jax.random.key(0), settings.traced(), params)
    before = jax.tree.map(np.asarray, begin.params)
    state, metrics = learning.train_chunk(
        begin, settings.traced(), params, learner=learner, length=solving.CHUNK
    )
    jax.tree.map(np.testing.assert_array_equal, state.params, before)
    assert int(metrics["groups_alike"].sum()) == int(metrics["groups"].sum())
    assert float(metrics["gradient_norm"].sum()) == 0
    assert int(metrics["nonfinite_losses"].sum()) == 0


def test_the_reference_holds_the_policy_back_until_it_moves() -> None:
    free = probabilities(probes.ACTION, CONFIG.replace(kl_coefficient=0.0))
    held = probabilities(probes.ACTION, CONFIG.replace(kl_coefficient=5.0, reference_updates=0.0))
    moved = probabilities(probes.ACTION, CONFIG.replace(kl_coefficient=5.0, reference_updates=4.0))
    assert held[:, 1].max() < 0.8 < moved[:, 1].min() < free[:, 1].min()


# Markets ----------------------------------------------------------------------------------------

SEEDS = 3
BRACKETS: dict[str, Any] = {
    "time_frames": "1min",
    "window_sizes": 1,
    "execute_on": "1min",
    "features": told,
    "leverage": 2,
    "transaction_fee": 0.0005,
    "stoploss_levels": (-0.003,),
    "takeprofit_levels": (0.003,),
}
LEARNING = CONFIG.replace(learning_rate=1e-2, num_envs=512, group_size=8, hidden_sizes=(16,))


def one_step(drift: float, **changes: Any) -> OneStepTradingEnv:
    return OneStepTradingEnv(
        frame(drift), OneStepTradingEnvConfig(**{**BRACKETS, "rollout_steps": 30, **changes})
    )


def learnt(learner: Any, settings: Any, env: Any, market: Any, updates: int) -> Any:
    """Variables of policies [K] that learnt on a range."""
    params = env.params(market)
    params = outcomes.params_of(learner.env, params)
    keys = jax.vmap(jax.random.key)(jnp.arange(SEEDS))
    traced = settings.traced()
    state = learning.start(learner, keys, traced, params, Normalizer.fit(market))
    state, metrics = learning.train_chunk(state, traced, params, learner=learner, length=updates)
    assert int(metrics["nonfinite_losses"].sum() + metrics["nonfinite"].sum()) == 0
    assert float(metrics["first_ratio_deviation_max"].max()) < 1e-5
    return evaluate.variables_of(state)


def growth(env: Any, choose: Any, variables: Any, market: Any, draws: Any = None) -> np.ndarray:
    records = evaluate.run(env, choose, variables, market=market, draws=draws)
    return np.array([np.log(one["equity"][-1] / one["equity"][0]) for one in records])


@pytest.fixture(scope="module")
def deployed() -> Any:
    """The bracket environment with a position lock, and its ranges with and without a signal."""
    config = SequentialTradingEnvSLTPConfig(**BRACKETS, lock_position_until_sltp=True)
    planted, walk = (SequentialTradingEnvSLTP(frame(drift), config) for drift in (DRIFT, 0.0))
    date = frame(0.0)["timestamp"].iloc[ROWS * 3 // 4]
    return planted, planted.market.split(date), walk.market.split(date)


@pytest.fixture(scope="module")
def deciding() -> Any:
    """The one-step environment with a signal, and a learner."""
    env = one_step(DRIFT)
    return env, grpo.GRPO.create(env, LEARNING)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param({"outcomes": "table"}, marks=pytest.mark.slow),
        pytest.param(
            {"sampling": "enumerate", "group_size": 3, "num_envs": 384}, marks=pytest.mark.slow
        ),
    ],
    ids=str,
)
def test_one_decision_at_a_time_learns_what_pays_step_by_step(
    deployed: Any, deciding: Any, changes: dict[str, Any]
) -> None:
    env, (train, test), (walk, walk_test) = deployed
    begin, learner = deciding
    settings = LEARNING.replace(**changes)
    if changes:
        learner = grpo.GRPO.create(begin, settings)
    choose = evaluate.NetworkPolicy(learner.network)
    found = growth(env, choose, learnt(learner, settings, begin, train, 60), test)
    draws = evaluate.random_draws(0, 4, test)
    rule = evaluate.RulePolicy(baselines.random(3))
    at_random = growth(env, rule, None, test, draws)
    assert found.min() > 0.5
    assert at_random.max() < 0
    flat = growth(env, choose, learnt(learner, settings, begin, walk, 60), walk_test)
    assert flat.min() > -0.01


@pytest.mark.slow
def test_step_by_step_it_learns_from_the_returns_of_episodes(deployed: Any) -> None:
    env, (train, test), (walk, walk_test) = deployed
    settings = LEARNING.replace(rollout_steps=8, num_envs=256)
    learner = grpo.GRPO.create(env, settings)
    choose = evaluate.NetworkPolicy(learner.network)
    found = growth(env, choose, learnt(learner, settings, env, train, 60), test)
    assert found.min() > 0.5
    flat = growth(env, choose, learnt(learner, settings, env, walk, 60), walk_test)
    assert flat.min() > -0.01


def test_a_bundle_moves_to_the_bracket_environment(
    deployed: Any, deciding: Any, tmp_path: Path
) -> None:
    env, (train, test), _ = deployed
    begin, learner = deciding
    variables = learnt(learner, LEARNING, begin, train, 60)
    one = policies.select_seed(variables, 0)
    bundle = Bundle.load(
        policies.bundle_of(begin, learner.network, one).save(tmp_path / "bundle.zip")
    )
    bundle.check(env)
    (record,) = evaluate.run(env, evaluate.BundlePolicy(bundle), market=test)
    expected = evaluate.run(env, evaluate.NetworkPolicy(learner.network), variables, market=test)[0]
    np.testing.assert_allclose(record["equity"], expected["equity"], rtol=1e-12)
    other = SequentialTradingEnvSLTP(
        frame(DRIFT), dataclasses.replace(env.config, stoploss_levels=(-0.004,))
    )
    with pytest.raises(ValueError, match="another action table"):
        bundle.check(other)
    json.dumps(bundle.config)


def test_the_table_is_the_environment() -> None:
    env = one_step(DRIFT, observation="index")
    table = outcomes.OutcomeTable(env)
    params = outcomes.params_of(table, env.default_params)
    generator = np.random.default_rng(0)
    bars = generator.integers(0, int(env.market.last), 50)
    actions = generator.integers(0, 3, 50)
    looked_up = jax.jit(
        jax.vmap(
            lambda bar, action: table.transition(
                env.initial_state(bar, params.cash_low, params), action, jnp.float32(0.9), params
            )[1]
        )
    )(jnp.asarray(bars), jnp.asarray(actions))
    np.testing.assert_allclose(looked_up, env.score(bars, actions), atol=1e-7)
    assert len(set(np.round(np.asarray(looked_up), 6))) > 3
    with pytest.raises(ValueError, match=r"slippage 0 and one initial_cash, was slippage 0\.001"):
        grpo.GRPO.create(one_step(0.0, slippage=0.001), LEARNING.replace(outcomes="table"))
    with pytest.raises(ValueError, match="cash from 5 to 9"):
        outcomes.OutcomeTable(one_step(0.0, initial_cash=(5, 9)))

"""An evaluation is the environment's own episode over the range, in float64."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxtrade
from agents import evaluate, policies, sac
from agents import learner as learning
from agents.comparison import caveat, compare
from agents.networks import Normalizer
from jaxtrade import (
    OneStepTradingEnv,
    OneStepTradingEnvConfig,
    SequentialTradingEnv,
    baselines,
)
from tests.agents.conftest import SMALL, Small, config, hours


@pytest.fixture(scope="module")
def trained(small: Small) -> Any:
    keys = jax.vmap(jax.random.key)(jnp.arange(3))
    state = learning.start(small.learner, keys, SMALL.traced(), small.params, small.normalizer)
    return small.env.market.split("2024-01-16")[1], evaluate.variables_of(state)


@pytest.fixture(scope="module")
def records(small: Small, trained: Any) -> list[evaluate.Record]:
    market, variables = trained
    choose = evaluate.NetworkPolicy(small.learner.network)
    return evaluate.run(small.env, choose, variables, market=market)


def actions_of(small: Small, market: Any, variables: Any, record: Any) -> np.ndarray:
    """The network's choices along a record, worked out apart from the evaluation."""
    from agents.networks import expand

    bars = np.arange(int(market.first), int(market.first) + record["reward"].size)
    seen = expand(
        {
            "bar": jnp.asarray(bars, jnp.int32),
            "account_state": jnp.asarray(record["account_state"][:-1], jnp.float32),
        },
        market.to_device(),
    )
    logits, _ = small.learner.network.apply(
        {"params": variables["params"]}, variables["normalizer"].observation(seen)
    )
    return np.asarray(logits.argmax(-1))


def test_it_is_the_trace_of_the_actions_it_took(
    small: Small, trained: Any, records: list[evaluate.Record]
) -> None:
    market, variables = trained
    steps = int(market.last) - int(market.first)
    for seed, record in enumerate(records):
        assert record["reward"].size == steps  # the whole range, not one training episode
        assert record["truncated"][-1]
        actions = actions_of(small, market, policies.select_seed(variables, seed), record)
        # Training episodes have 20 steps; the trace gets the range's own length.
        env = SequentialTradingEnv(
            small.env.market, dataclasses.replace(small.env.config, max_steps=None)
        )
        start = int(market.bar_time[int(market.first)])
        expected = jaxtrade.trace(env, actions, start=start, float64=True)
        for name, values in expected.items():
            ours = record[name]
            assert ours.dtype == values.dtype, name
            np.testing.assert_allclose(ours, values, rtol=1e-12, atol=1e-9, err_msg=name)
    assert records[0]["equity"].dtype == np.float64


def test_the_bundle_of_a_seed_decides_like_the_seed(
    small: Small, trained: Any, records: list[evaluate.Record]
) -> None:
    market, variables = trained
    one = policies.select_seed(variables, 1)
    bundle = policies.bundle_of(small.env, small.learner.network, one)
    (record,) = evaluate.run(small.env, evaluate.BundlePolicy(bundle), market=market)
    for name, values in records[1].items():
        np.testing.assert_allclose(record[name], values, rtol=1e-12, atol=1e-9, err_msg=name)
    network, variables = policies.from_bundle(bundle)
    assert network == small.learner.network
    jax.tree.map(np.testing.assert_array_equal, variables["params"], one["params"])
    jax.tree.map(np.testing.assert_array_equal, variables["normalizer"], one["normalizer"])


def test_it_ends_at_the_first_done(small: Small) -> None:
    frame = hours(200)
    frame.loc[100:, ["open", "high", "low", "close"]] *= 0.5  # a crash ruins a levered long
    fields = {"leverage": 10, "transaction_fee": 0.0003, "bankrupt_threshold": 0.5}
    env = SequentialTradingEnv(frame, config(**fields))
    (record,) = evaluate.run(env, evaluate.RulePolicy(baselines.always_long(env)))
    assert record["terminated"].sum() == 1
    assert record["terminated"][-1]
    assert record["reward"].size < 199
    assert record["equity"].size == record["reward"].size + 1


def test_draws_of_another_length_are_refused(small: Small) -> None:
    with pytest.raises(ValueError, match="draws: expected shape"):
        evaluate.run(small.env, evaluate.RulePolicy(baselines.random(5)), draws=np.zeros((2, 7)))


def test_the_comparison_holds_every_baseline(
    small: Small, trained: Any, records: list[evaluate.Record]
) -> None:
    market, _ = trained
    found = compare(small.env, {"PPO": records}, market, random_policies=3)
    assert list(found.metrics) == [
        "PPO",
        "buy and hold (no costs)",
        "always long",
        "always flat",
        "random",
    ]
    lengths = {name: len(row["total_return"]) for name, row in found.metrics.items()}
    assert lengths["PPO"] == lengths["random"] == 3
    assert found.metrics["always flat"]["total_return"] == [0.0]
    closes = np.asarray(market.ohlcv)[int(market.first) : int(market.last) + 1, 3]
    np.testing.assert_allclose(
        found.metrics["buy and hold (no costs)"]["total_return"], closes[-1] / closes[0] - 1
    )
    assert found.metrics["always long"]["costs"][0] > 0
    np.testing.assert_allclose(found.days, (closes.size - 1) / 24)
    assert len(set(found.metrics["random"]["total_return"])) == 3
    # The random policies are those that run alone; all rules run in one program.
    draws = evaluate.random_draws(0, 3, market)
    alone = evaluate.run(
        small.env, evaluate.RulePolicy(baselines.random(5)), market=market, draws=draws
    )
    for ours, other in zip(found.records["random"], alone, strict=True):
        np.testing.assert_allclose(ours["equity"], other["equity"], rtol=1e-12)
    # Without a level of 0 there is no way to stay flat.
    env = SequentialTradingEnv(hours(100), config(action_levels=(-1.0, 1.0)))
    record = evaluate.run(env, evaluate.RulePolicy(baselines.always_long(env)))
    assert "always flat" not in compare(env, {"x": record}, env.market, random_policies=1).metrics


@pytest.mark.slow
def test_rules_are_compared_where_a_window_is_long_enough() -> None:
    env = SequentialTradingEnv(hours(200), config(window_sizes=(3, 28)))
    record = evaluate.run(env, evaluate.RulePolicy(baselines.always_flat(env)))
    found = compare(env, {"x": record}, env.market, random_policies=1)
    assert {"moving averages", "mean reversion"} <= set(found.metrics)
    rule = baselines.moving_average_cross(env, time_frame="1hour")
    (expected,) = evaluate.run(env, evaluate.RulePolicy(rule))
    (ours,) = found.records["moving averages"]
    np.testing.assert_allclose(ours["equity"], expected["equity"], rtol=1e-12)


def test_numbers_are_chosen_without_noise() -> None:
    env = SequentialTradingEnv(hours(100), config(action="continuous", leverage=1))
    network = sac.SACConfig(hidden_sizes=(8,)).network(2)
    seen, _ = env.reset(jax.random.key(0))
    params = network.init(jax.random.key(1), seen)["params"]
    variables = {"params": params, "normalizer": Normalizer.fit(env.market)}
    one = jax.tree.map(lambda x: jnp.asarray(x)[None], variables)
    (record,) = evaluate.run(env, evaluate.NetworkPolicy(network, continuous=True), one)
    bundle = policies.bundle_of(env, network, variables)
    (again,) = evaluate.run(env, evaluate.BundlePolicy(bundle))
    # The action is a float32 of two programs.
    np.testing.assert_allclose(again["equity"], record["equity"], rtol=1e-8)
    batch = jax.tree.map(lambda x: jnp.asarray(x)[None], seen)
    normal = variables["normalizer"].observation(batch)
    mean = network.apply({"params": params}, normal)[0][0, 0]
    np.testing.assert_allclose(bundle.decide(batch)[0], np.tanh(mean), rtol=1e-5)


def test_one_decision_is_judged_where_the_position_waits_for_its_exit() -> None:
    brackets: dict[str, Any] = {
        "leverage": 2,
        "stoploss_levels": (-0.01,),
        "takeprofit_levels": (0.02,),
        "transaction_fee": 0.0005,
        "include_close_action": True,
    }
    deciding = OneStepTradingEnv(
        hours(100), OneStepTradingEnvConfig(**brackets, rollout_steps=5, close_at_horizon=True)
    )
    judging = evaluate.evaluated(deciding)
    assert judging.locks
    assert judging.market is deciding.market
    assert judging.action_description() == deciding.action_description()
    shared = judging.config.to_dict()
    assert {name: shared[name] for name in brackets} == {
        name: deciding.config.to_dict()[name] for name in brackets
    }
    assert evaluate.evaluated(judging) is judging


def test_the_caveat_states_the_standard_error() -> None:
    assert "= 3.4," in caveat(31)
    assert "= 1.0," in caveat(365)

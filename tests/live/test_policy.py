"""Bundles, rules and functions decide behind one call, and only what fits is accepted."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jaxtrade import (
    SequentialTradingEnv,
    SequentialTradingEnvConfig,
    SequentialTradingEnvSLTP,
    SequentialTradingEnvSLTPConfig,
    baselines,
)
from jaxtrade.bundle import Bundle
from live.policy import (
    BASELINES,
    BaselinePolicy,
    BundlePolicy,
    CallablePolicy,
    PolicyTarget,
    named_object,
    observer_for,
)
from tests.envs.builders import walk

LEVELS = (-1.0, 0.0, 0.5, 1.0)
WEIGHTS = np.linspace(-1, 1, (40 * 5 + 6) * 4).reshape(40 * 5 + 6, 4).astype(np.float32)
INFO = {"bar_open_ms": 1_700_000_040_000}


def logits(observation: dict[str, jax.Array]) -> jax.Array:
    batch = observation["account_state"].shape[0]
    flat = [observation[key].reshape(batch, -1) for key in sorted(observation)]
    return jnp.concatenate(flat, axis=-1) @ WEIGHTS


def environment(**fields: Any) -> SequentialTradingEnv:
    common = {"time_frames": "5min", "window_sizes": 40, "execute_on": "5min", "leverage": 3}
    config = SequentialTradingEnvConfig(**{**common, "action_levels": LEVELS, **fields})
    return SequentialTradingEnv(walk(900), config)


@pytest.fixture(scope="module")
def env() -> SequentialTradingEnv:
    return environment()


@pytest.fixture(scope="module")
def bracket_env() -> SequentialTradingEnvSLTP:
    config = SequentialTradingEnvSLTPConfig(
        time_frames="5min", window_sizes=40, execute_on="5min", include_close_action=True
    )
    return SequentialTradingEnvSLTP(walk(900), config)


@pytest.fixture(scope="module")
def bundle(env: SequentialTradingEnv) -> Bundle:
    return Bundle.of(env, logits, {})


def target_like(env: Any) -> PolicyTarget:
    table = env.action_table if env.has_brackets else None
    levels = None if env.has_brackets else env.config.levels
    return PolicyTarget(env.market.spec, env.config.spot, levels, table)


def observation(seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        "market_data_5Minute": generator.normal(0, 0.01, (40, 5)).astype(np.float32),
        "account_state": generator.normal(0, 1, 6).astype(np.float32),
    }


# Targets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [LEVELS, (0.5, -0.2, 0.0, 0.5 - 1e-9), (1.0, 0.3), (-1.0, 0.0)])
@pytest.mark.parametrize("leverage", [1, 3])
@pytest.mark.filterwarnings("ignore:action_levels")
def test_a_target_means_what_the_environment_means(
    levels: tuple[float, ...], leverage: float, env: SequentialTradingEnv
) -> None:
    changed = dataclasses.replace(env.config, action_levels=levels, leverage=leverage)
    offline = SequentialTradingEnv(env.market, changed)
    target = target_like(offline)
    assert target.action_description() == offline.action_description()
    assert [target.action_for(side) for side in (-1, 0, 1)] == [
        offline.action_for(side) for side in (-1, 0, 1)
    ]
    assert target.num_actions == offline.num_actions


def test_a_bracket_target_means_what_the_environment_means(
    bracket_env: SequentialTradingEnvSLTP,
) -> None:
    target = target_like(bracket_env)
    assert target.action_description() == bracket_env.action_description()
    for side in (-1, 0, 1):
        assert target.action_for(side) == bracket_env.action_for(side)
    with pytest.raises(ValueError, match="give exactly one"):
        PolicyTarget(target.spec, True)


# Bundles ----------------------------------------------------------------------------------------


def test_a_bundle_decides_as_in_training(
    env: SequentialTradingEnv, bundle: Bundle, tmp_path: Path
) -> None:
    path = bundle.save(tmp_path / "policy.zip")
    policy = BundlePolicy.load(path, target_like(env))
    assert policy.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    decided = set()
    for seed in range(20):
        seen = observation(seed)
        batch = {key: part[None] for key, part in seen.items()}
        action = policy(seen, INFO)
        assert action == int(bundle.decide(batch)[0])
        assert isinstance(action, int)
        decided.add(action)
    assert len(decided) > 1
    with jax.enable_x64(True):
        assert policy(observation(3), INFO) == policy(observation(3), INFO)


def test_a_bundle_for_something_else_is_refused(env: SequentialTradingEnv, bundle: Bundle) -> None:
    target = target_like(env)
    with pytest.raises(ValueError, match="made for another action table: levels was"):
        BundlePolicy(bundle, dataclasses.replace(target, levels=(-1.0, 0.0, 0.4, 1.0)))
    with pytest.raises(ValueError, match="made for another action table: spot was"):
        BundlePolicy(bundle, dataclasses.replace(target, spot=True))
    swapped = dataclasses.replace(
        target.spec, feature_columns=(target.spec.feature_columns[0][::-1],)
    )
    with pytest.raises(ValueError, match="made for another feature set: feature_columns was"):
        BundlePolicy(bundle, dataclasses.replace(target, spec=swapped))


def test_weights_that_are_not_finite_give_no_action(env: SequentialTradingEnv) -> None:
    broken = WEIGHTS.copy()
    broken[5, 2] = np.nan
    bundle = Bundle.of(env, lambda seen: logits(seen) @ (broken[:4, :4] * 0 + broken[5, 2]), {})
    assert math.isnan(BundlePolicy(bundle)(observation(), INFO))


def test_an_observation_of_another_shape_is_refused(bundle: Bundle) -> None:
    seen = {**observation(), "account_state": np.zeros(5, np.float32)}
    with pytest.raises(ValueError, match="expected a batch of"):
        BundlePolicy(bundle)(seen, INFO)


def test_a_continuous_bundle_gives_its_number() -> None:
    number = environment(action="continuous", action_levels=None)
    bundle = Bundle.of(number, lambda seen: jnp.tanh(logits(seen)[:, 0]), {})
    action = BundlePolicy(bundle)(observation(), INFO)
    assert isinstance(action, float)
    assert -1 <= action <= 1


def spread(bars: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"feature_spread": bars["high"] / bars["low"] - 1})


def drop(bars: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"feature_drop": bars["low"] / bars["open"] - 1})


def test_the_observer_of_a_bundle_shows_its_features(bundle: Bundle) -> None:
    observer = observer_for(bundle, replay=True)
    assert observer.spec.feature_hash == bundle.feature_hash
    assert (observer.leverage, observer.maintenance_rate, observer.replay) == (3, 0.004, True)
    assert observer_for(bundle, leverage=7.0).leverage == 7
    assert observer.lookback == 50
    declared = dataclasses.replace(bundle, details={"feature_lookback": 3})
    assert observer_for(declared).lookback == 3


def steep(bars: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"feature_steep": bars["close"] / bars["close"].shift(2) - 1}).dropna()


def test_a_declared_lookback_travels_with_the_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steep, "feature_lookback", 2, raising=False)
    env = environment(features=steep)
    bundle = Bundle.of(env, lambda seen: seen["account_state"][:, :4], {})
    assert bundle.details == {"feature_lookback": 2}
    assert observer_for(bundle, steep).lookback == 2
    # One that is too small is found out before anything is traded.
    monkeypatch.setattr(steep, "feature_lookback", 1, raising=False)
    short = Bundle.of(environment(features=steep), lambda seen: seen["account_state"][:, :4], {})
    with pytest.raises(ValueError, match="more than 1 rows before the window"):
        observer_for(short, steep)


def test_named_features_must_be_given_and_be_the_same() -> None:
    env = environment(features=spread, margin_call_threshold=0.3)
    bundle = Bundle.of(env, lambda seen: seen["account_state"][:, :4], {})
    assert observer_for(bundle, spread).maintenance_rate == pytest.approx(0.1)
    with pytest.raises(ValueError, match="expected 'default', 'ohlcv', a function"):
        observer_for(bundle)
    with pytest.raises(ValueError, match=r"feature_columns was .*spread.*, here it is .*drop"):
        observer_for(bundle, drop)


# Rules and functions ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", BASELINES)
def test_rules_decide_as_offline(name: str, env: SequentialTradingEnv) -> None:
    policy = BaselinePolicy(name, target_like(env))
    offline = getattr(baselines, name)(env)
    decided = []
    for seed in range(8):
        seen, info = observation(seed), {"bar_open_ms": 60_000 * seed}
        decided.append(policy(seen, info))
        assert isinstance(decided[-1], int)
        assert 0 <= decided[-1] < env.num_actions
        if name != "random":
            batch = {key: part[None] for key, part in seen.items()}
            assert decided[-1] == int(offline(batch, np.zeros(1))[0])
    again = BaselinePolicy(name, target_like(env))
    seen = [again(observation(seed), {"bar_open_ms": 60_000 * seed}) for seed in range(8)]
    assert decided == seen  # a restart changes nothing
    if name == "random":
        assert len(set(decided)) > 1


def test_rules_that_do_not_exist_or_do_not_fit_are_refused(env: SequentialTradingEnv) -> None:
    with pytest.raises(ValueError, match="unknown baseline 'always_flatt'; did you mean 'always_"):
        BaselinePolicy("always_flatt", target_like(env))
    with pytest.raises(ValueError, match="unknown baseline 'constant'"):
        BaselinePolicy("constant", target_like(env))
    short = dataclasses.replace(target_like(env), levels=(-1.0, -0.5))
    with pytest.raises(ValueError, match="no action for a long position"):
        BaselinePolicy("always_long", short)
    with pytest.raises(ValueError, match="needs 50 closes"):
        BaselinePolicy("moving_average_cross", target_like(env), slow=50)


def last_change(observation: Any, info: Any) -> np.ndarray:
    return np.int64(observation["market_data_5Minute"][-1, 0] > 0)


def make_policy(target: PolicyTarget) -> Any:
    return lambda observation, info: target.num_actions - 1


not_callable = 3


def test_a_function_is_found_by_its_name() -> None:
    policy = CallablePolicy(f"{__name__}:last_change")
    assert policy.name == f"{__name__}:last_change"
    action = policy(observation(), INFO)
    assert type(action) is int
    assert CallablePolicy(lambda seen, info: info["bar_open_ms"])({}, INFO) == INFO["bar_open_ms"]
    # What is no single number stays as it is: the planner holds.
    odd = CallablePolicy(lambda seen, info: np.zeros(1))({}, INFO)
    assert odd.shape == (1,)


def test_a_factory_is_told_what_it_makes_a_policy_for(env: SequentialTradingEnv) -> None:
    policy = CallablePolicy.made_by(f"{__name__}:make_policy", target_like(env))
    assert policy({}, INFO) == 3
    assert policy.name.endswith(":make_policy")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("last_change", "expected 'module:name'"),
        ("no.such.module:x", "No module named 'no'"),
        (f"{__name__}:last_chance", "did you mean 'last_change'"),
        (f"{__name__}:not_callable", "is not callable"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CallablePolicy(name)


def test_nested_names_are_reached() -> None:
    assert named_object("live.policy:CallablePolicy.made_by") == CallablePolicy.made_by


def test_live_policies_and_replays_need_no_gymnax(project_folder: Path) -> None:
    code = (
        "import sys, live.policy, live.replay, live.observation, live.clock, jaxtrade.baselines\n"
        "print([n for n in ('gymnax', 'flax', 'agents', 'jaxtrade.envs') if n in sys.modules])\n"
        "bridge = sys.modules.get('jax._src.xla_bridge')\n"
        "print(sorted(bridge._backends) if bridge else [])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=project_folder, capture_output=True, text=True, check=True
    )
    assert result.stdout.split("\n")[:2] == ["[]", "[]"]

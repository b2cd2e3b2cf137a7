"""Costs, leverage, start and market of every episode."""

from __future__ import annotations

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import ppo
from jaxtrade import OneStepTradingEnv, OneStepTradingEnvConfig
from jaxtrade.market import Market, stack
from jaxtrade.wrappers import ContinuingEpisodes, LogWrapper, Randomization
from tests.envs.builders import assert_trees_equal, walk
from tests.wrappers.builders import FRAMES, KEY, env_of, keys, market

RANGES = {
    "fee": (1e-4, 4e-4),
    "half_spread": (0.0, 1e-3),
    "slippage": (0.0, 2e-3),
    "leverage": (2.0, 6.0),
}
LANES = 400


@pytest.fixture(scope="module")
def plain():
    return env_of(observation="index", max_steps=8)


@pytest.fixture(scope="module")
def env(plain):
    return Randomization(plain, **RANGES)


@pytest.fixture(scope="module")
def resets(env):
    """States of many lanes."""
    reset = jax.jit(jax.vmap(env.reset, in_axes=(0, None)))
    return reset(keys(LANES), env.default_params)[1]


@pytest.mark.parametrize("name", RANGES)
def test_values_are_spread_over_their_range(resets, name):
    low, high = RANGES[name]
    values = np.asarray(resets.drawn[name])
    assert np.float32(low) <= values.min() < low + 0.02 * (high - low)
    assert high - 0.02 * (high - low) < values.max() <= np.float32(high)
    assert abs(values.mean() - (low + high) / 2) < 0.05 * (high - low)


def test_values_starts_and_lanes_are_independent(resets):
    columns = np.stack([*resets.drawn.values(), resets.inner.bar])
    assert columns.shape[0] == 5
    assert np.abs(np.corrcoef(columns) - np.eye(5)).max() < 0.2
    assert len(np.unique(resets.drawn["fee"])) > 0.99 * LANES


def test_one_key_one_episode(env):
    params = env.default_params
    one, two = env.reset(KEY, params), copy.deepcopy(env).reset(KEY, params)
    assert_trees_equal(one, two)
    other = env.reset(keys(1)[0], params)[1]
    assert float(one[1].drawn["fee"]) != float(other.drawn["fee"])


def test_drawn_values_price_every_step_of_the_episode_and_change_with_the_next(env, plain):
    state = env.reset(KEY)[1]
    step, look = jax.jit(plain.transition), jax.jit(plain.account_state)
    episodes = 0
    for k in range(20):
        key, action = jax.random.fold_in(KEY, k), jnp.int32(4 * (k % 2))
        observation, following, reward, _, truncated, info = env.step(key, state, action)
        # The environment itself, configured with these values.
        own = plain.default_params.replace(**state.drawn)
        draw = jax.random.uniform(jax.random.split(key)[0])
        stepped, expected, _, record = step(state.inner, action, draw, own)
        assert float(reward) == pytest.approx(float(expected), abs=1e-6)
        np.testing.assert_allclose(info["fee"], record["fee"], rtol=1e-5)
        np.testing.assert_allclose(info["cost"], record["cost"], rtol=1e-4, atol=1e-2)
        assert float(info["fee"]) > 0
        assert float(observation["account_state"][4]) == float(following.drawn["leverage"])
        final = info["final_observation"]["account_state"]
        np.testing.assert_allclose(final, look(stepped, own), rtol=1e-4, atol=1e-5)
        same = {name: bool(following.drawn[name] == state.drawn[name]) for name in RANGES}
        assert set(same.values()) == {not bool(truncated)}
        episodes += bool(truncated)
        state = following
    assert episodes == 2


def test_what_has_no_range_stays_in_the_parameters(plain):
    env = Randomization(plain, slippage=(0.0, 1e-3))
    params = env.default_params
    state = env.reset(KEY)[1]
    assert list(state.drawn) == ["slippage"]
    swept = params.replace(fee=jnp.float32(0.01))
    infos = [env.step(KEY, state, 4, given)[5] for given in (params, swept)]
    fees = [float(info["fee"] / info["traded_notional"]) for info in infos]
    np.testing.assert_allclose(fees, [1e-4, 0.01], rtol=1e-4)


def test_evaluation_uses_the_configured_values(env, plain):
    params = env.default_params
    state = env.initial_state(jnp.int32(30), params.cash_low, params)
    given = (jnp.int32(4), jnp.float32(0.5))
    stepped, reward, *_ = jax.jit(env.transition)(state, *given, params)
    _, expected, *_ = jax.jit(plain.transition)(state.inner, *given, plain.default_params)
    assert float(reward) == pytest.approx(float(expected), abs=1e-6)
    assert float(stepped.drawn["leverage"]) == 3


# -- starts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "bars"),
    [
        ((30, 50), (30, 50)),
        (("2024-01-01 00:30", "2024-01-01 00:50:30"), (30, 50)),
        (("2024-01-01 00:29:30", "2024-01-01 00:50"), (30, 50)),
        ((0, 20), (14, 20)),  # from the first usable bar on
        ((140, 1000), (140, 151)),  # 8 steps are left at bar 151 of 159
        ((70, 70), (70, 70)),
        ((155, 155), (155, 155)),  # asked for: shorter episodes
    ],
)
def test_starts_lie_in_the_range(plain, start, bars):
    env = Randomization(plain, start=start)
    reset = jax.jit(jax.vmap(env.reset, in_axes=(0, None)))
    found = np.asarray(reset(keys(LANES), env.default_params)[1].bar)
    assert (found.min(), found.max()) == bars
    assert len(np.unique(found)) == bars[1] - bars[0] + 1
    _, state = env.reset(KEY)
    for k in range(9):  # also those after a reset; and episodes run to their end
        state = env.step(jax.random.fold_in(KEY, k), state, 0)[1]
        assert int(state.bar) - int(state.time) in range(bars[0], bars[1] + 1)


def test_episodes_run_beyond_the_range_of_starts(plain):
    env = Randomization(plain, start=(30, 31))
    _, state = env.reset(KEY)
    for k in range(7):
        out = env.step(jax.random.fold_in(KEY, k), state, 0)
        assert not bool(out[4])
        state = out[1]
    assert int(state.bar) >= 37


def test_a_market_without_these_bars_is_used_whole(plain):
    env = Randomization(plain, start=("2024-01-01 00:20", "2024-01-01 00:40"))
    _, test = plain.market.split("2024-01-01 01:00")
    bars = np.asarray(env.params(test).starts)
    assert bars.tolist() == [[int(test.first), int(test.last) - 1]]


# -- markets --------------------------------------------------------------------------------------

SEEDS, ROWS = (3, 4, 5), (160, 110, 140)


@pytest.fixture(scope="module")
def several():
    """Three markets of different length, and an environment of each by itself."""
    return [env_of(seed, rows, max_steps=8) for seed, rows in zip(SEEDS, ROWS, strict=True)]


@pytest.fixture(scope="module")
def mixed(several):
    return Randomization(several[0], markets=stack([env.market for env in several]))


def test_every_episode_trades_one_market_as_if_alone(several, mixed):
    params = mixed.default_params
    step = jax.jit(several[0].transition)
    observe = jax.jit(lambda state, params: several[0].observe(None, state, None, params))
    begins = np.asarray(params.spans.begin)
    assert begins.tolist() == [0, 160, 320]
    symbols, state = [], mixed.reset(KEY)[1]
    for k in range(96):
        symbol = int(state.symbol)
        begin, alone = int(begins[symbol]), several[symbol].default_params
        assert int(mixed.data_start(state, params)) == begin
        key = jax.random.fold_in(KEY, k)
        action, draw = jnp.int32(k % 5), jax.random.uniform(jax.random.split(key)[0])
        out = mixed.step(key, state, action)
        local = state.inner.replace(bar=state.bar - begin)
        stepped, reward, _, info = step(local, action, draw, alone)
        assert float(out[2]) == pytest.approx(float(reward), abs=2e-6)
        assert float(out[5]["equity"]) == pytest.approx(float(info["equity"]), rel=1e-5)
        shown = observe(stepped, alone)
        for name, window in out[5]["final_observation"].items():
            np.testing.assert_allclose(window, shown[name], rtol=1e-4, atol=1e-5, err_msg=name)
        symbols.append(symbol)
        state = out[1]
    assert set(symbols) == {0, 1, 2}


@pytest.mark.parametrize("symbol", range(3))
def test_every_market_ends_at_its_own_last_bar(several, mixed, symbol):
    params, last = mixed.default_params, int(several[symbol].market.last)
    begin = int(params.spans.begin[symbol])
    assert last == ROWS[symbol] - 1
    for bar in (last - 1, last):
        state = mixed.initial_state(jnp.int32(begin + bar), params.cash_low, params)
        assert int(state.symbol) == symbol
        assert bool(mixed.is_truncated(state, params)) == (bar == last)


def test_starts_in_several_markets(several, mixed):
    reset = jax.jit(jax.vmap(mixed.reset, in_axes=(0, None)))
    state = reset(keys(LANES), mixed.default_params)[1]
    for symbol, env in enumerate(several):
        bars = np.asarray(state.bar)[np.asarray(state.symbol) == symbol]
        local = bars - int(mixed.default_params.spans.begin[symbol])
        assert bars.size > LANES / 5
        first, last = int(env.market.first), int(env.market.last) - 8
        assert first <= local.min() < first + 10
        assert last - 10 < local.max() <= last
    ranged = Randomization(several[0], markets=mixed.markets, start=(50, 60))
    state = jax.jit(jax.vmap(ranged.reset, in_axes=(0, None)))(keys(LANES), ranged.default_params)[
        1
    ]
    local = np.asarray(state.bar) - np.asarray(ranged.default_params.spans.begin)[state.symbol]
    assert (local.min(), local.max()) == (50, 60)


def test_parameters_of_other_markets(several, mixed):
    single = mixed.params(several[1].market)
    assert single.spans is None
    assert int(mixed.reset(KEY, single)[1].symbol) == 0
    two = mixed.params(stack([several[2].market, several[1].market]))
    assert np.asarray(two.spans.begin).tolist() == [0, 140]
    np.testing.assert_array_equal(two.market.ohlcv[140:250], several[1].default_params.market.ohlcv)


def test_bars_of_all_markets_are_in_the_observation_space():
    one, two = env_of(3, 160, observation="index"), env_of(4, 110, observation="index")
    env = Randomization(one, markets=stack([one.market, two.market]))
    params = env.default_params
    state = env.initial_state(jnp.int32(160 + 100), params.cash_low, params)
    observation = env.observe(None, state, None, params)
    assert bool(env.observation_space().contains(observation))
    assert not bool(one.observation_space().contains(observation))


# -- with others ----------------------------------------------------------------------------------


def test_an_account_restarted_after_ruin_keeps_its_terms():
    ruinous = env_of(
        leverage=20, transaction_fee=0.0, bankrupt_threshold=0.9, max_steps=5, observation="index"
    )
    env = Randomization(
        ContinuingEpisodes(ruinous),
        leverage=(15, 20),
        markets=stack([market(160, 3), market(110, 4)]),
    )
    state = env.reset(KEY)[1]
    ruins = ends = 0
    for k in range(90):
        out = env.step(jax.random.fold_in(KEY, k), state, 4)
        following, same = out[1], float(out[1].drawn["leverage"] - state.drawn["leverage"]) == 0
        if bool(out[3] & ~out[4]):
            assert int(following.bar) == int(state.bar) + 1
            assert int(following.time) == 0
            assert int(following.symbol) == int(state.symbol)
            assert same
            ruins += 1
        elif bool(out[4]):
            assert not same
            ends += 1
        state = following
    assert ruins > 3
    assert ends > 1


def test_one_step_environment_of_several_markets():
    config = OneStepTradingEnvConfig(**FRAMES, rollout_steps=12, observation="index")
    plain = OneStepTradingEnv(market(160, 3), config)
    env = Randomization(
        plain, fee=(0, 1e-3), markets=stack([market(160, 3), market(110, 4)]), start=(40, 60)
    )
    state = env.reset(KEY)[1]
    for k in range(10):
        begin = int(env.default_params.spans.begin[state.symbol])
        assert 40 <= int(state.bar) - begin <= 60
        out = env.step(jax.random.fold_in(KEY, k), state, 3)
        own = plain.default_params.replace(
            fee=state.drawn["fee"], market=market(*((160, 3), (110, 4))[int(state.symbol)])
            .to_device()
        )  # fmt: skip
        local = state.inner.replace(bar=state.bar - begin)
        draw = jax.random.uniform(jax.random.split(jax.random.fold_in(KEY, k))[0])
        _, reward, *_ = plain.transition(local, jnp.int32(3), draw, own)
        assert float(out[2]) == pytest.approx(float(reward), abs=2e-6)
        state = out[1]


@pytest.mark.slow
def test_a_learner_trains_on_it(mixed):
    plain = env_of(3, 160, max_steps=8, observation="index")
    env = Randomization(ContinuingEpisodes(plain), **RANGES, markets=mixed.markets)
    config = ppo.PPOConfig(
        num_envs=8, rollout_steps=6, epochs=1, minibatches=2, hidden_sizes=(8,), channels=(4,)
    )
    learner = ppo.PPO.create(env, config)
    params = env.default_params
    state = jax.jit(learner.init)(KEY, config.traced(), params)
    before = state.params
    update = jax.jit(learner.update)
    episodes = 0
    for _ in range(3):
        state, metrics = update(state, config.traced(), params)
        assert int(metrics["nonfinite"]) == 0
        episodes += int(metrics["episodes"])
    assert episodes
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, state.params)
    assert any(jax.tree.leaves(moved))


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fee": 0.1}, r"^fee: must be a pair \(low, high\) with low <= high; got 0.1"),
        ({"fee": (2e-4, 1e-4)}, r"^fee: must be a pair \(low, high\) with low <= high"),
        ({"slippage": (0, float("nan"))}, r"^slippage: must be a pair \(low, high\)"),
        ({"fee": (-1e-4, 1e-4)}, r"^transaction_fee: must be in \[0, 1\); got -0.0001"),
        ({"fee": (0, 0.1)}, "^transaction_fee: 0.1 does not fit inside the margin left"),
        ({"slippage": (0, 1)}, r"^slippage: must be in \[0, 1\); got 1"),
        (
            {"slippage": (0, 0.6), "half_spread": (0, 0.5)},
            r"^half_spread \+ slippage: must be < 1; got 1.1",
        ),
        ({"leverage": (1, 5)}, r"^leverage: must stay above 1, which would be spot; got \(1.0, 5"),
        ({"leverage": (2, 200)}, "^leverage: must be a finite number in"),
        (
            {"leverage": (2, 100), "fee": (0, 0.0045), "action_levels": (0, 1)},
            "does not fit .* long position .leverage 100",
        ),
        ({"leverage": (1.01, 3), "fee": (0, 0.0022)}, "does not fit .* short position .leverage 1"),
        ({"leverage": (2, 110), "maintenance_margin_rate": 0.0095}, "^maintenance_margin_rate"),
        ({"start": 5}, "^start: must be a pair of bars or of times; got 5"),
        ({"start": (1, "2024-01-01")}, "^start: must be a pair of bars or of times"),
        ({"start": (9, 3)}, r"^start: must be a pair in order, bars from 0 on; got \(9, 3\)"),
        ({"start": (-9, 3)}, "^start: must be a pair in order"),
        ({"start": ("2024-01-02", "2024-01-01")}, "^start: must be a pair in order"),
        ({"start": ("a", "b")}, "^time: expected a date"),
        (
            {"start": ("2023-01-01", "2023-01-02")},
            r"^start: market 0 has no bar in this range .* bars 14 \(2024-01-01 00:14:00\) to 158",
        ),
        ({"start": (0, 10)}, "^start: market 0 has no bar in this range"),
        ({"markets": "single"}, "^markets: expected several, from jaxtrade.market.stack"),
    ],
    ids=str,
)  # fmt: skip
def test_errors(fields, message):
    own = {
        name: fields[name]
        for name in fields
        if name in ("action_levels", "maintenance_margin_rate")
    }
    env = env_of(**own)
    given = {name: value for name, value in fields.items() if name not in own}
    if "markets" in given:
        given["markets"] = env.market
    with pytest.raises(ValueError, match=message):
        Randomization(env, **given)


def test_what_does_not_fit_the_environment():
    with pytest.raises(ValueError, match=r"^leverage: cannot vary in an environment of spot"):
        Randomization(env_of(leverage=1), leverage=(2, 3))
    with pytest.raises(ValueError, match=r"^start: needs random_start=True"):
        Randomization(env_of(random_start=False), start=(20, 30))
    with pytest.raises(ValueError, match=r"got LogWrapper. Put that around Randomization"):
        Randomization(LogWrapper(env_of()))
    with pytest.raises(ValueError, match=r"got LogWrapper. Put that around Randomization"):
        Randomization(ContinuingEpisodes(LogWrapper(env_of())))
    other = Market.from_frame(walk(80), time_frames="1min", window_sizes=2, execute_on="1min")
    env = Randomization(env_of(), markets=stack([other, other]))
    with pytest.raises(ValueError, match=r"^market: was built with time_frames"):
        env.default_params  # noqa: B018 - reading it is the test

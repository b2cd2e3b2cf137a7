"""Rules are pure functions of an observation and a draw."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from agents import evaluate
from jaxtrade import (
    SequentialTradingEnv,
    SequentialTradingEnvConfig,
    SequentialTradingEnvSLTP,
    SequentialTradingEnvSLTPConfig,
    baselines,
)
from jaxtrade.market import Market
from jaxtrade.wrappers import LogWrapper

DRAW = jnp.float32(0.3)
ROWS = 300


def bars(close):
    """One-minute bars with these closes."""
    close = np.asarray(close, float)
    opening = np.concatenate([close[:1], close[:-1]])
    return pd.DataFrame(
        {
            "timestamp": pd.date_range("2024-01-01", periods=close.size, freq="1min"),
            "open": opening,
            "high": np.maximum(opening, close),
            "low": np.minimum(opening, close),
            "close": close,
            "volume": 1.0,
        }
    )


def walk(rows=ROWS, seed=0, price=40_000.0):
    steps = np.random.default_rng(seed).normal(0, 0.004, rows)
    steps[::17] *= 4
    return price * np.exp(np.cumsum(steps))


@functools.cache
def market(features="default", window=30):
    """The walk with windows of five minutes and of one."""
    return Market.from_frame(
        bars(walk()),
        time_frames=("5min", "1min"),
        window_sizes=(3, window),
        execute_on="1min",
        features=features,
    )


@functools.cache
def env_of(features="default", leverage=2, window=30, **fields):
    config = SequentialTradingEnvConfig(
        time_frames=("5min", "1min"),
        window_sizes=(3, window),
        execute_on="1min",
        features=features,
        leverage=leverage,
        **fields,
    )
    return SequentialTradingEnv(market(features, window), config)


@functools.cache
def brackets(leverage=2, **fields):
    config = SequentialTradingEnvSLTPConfig(
        time_frames=("5min", "1min"),
        window_sizes=(3, 30),
        execute_on="1min",
        leverage=leverage,
        **fields,
    )
    return SequentialTradingEnvSLTP(market(), config)


def observation(*batch, direction=0.0):
    account = jnp.zeros((*batch, 6)).at[..., 1].set(direction)  # noqa: PD008 - not pandas
    return {"account_state": account}


def observed(env, direction=0.0):
    """Observations of every bar from the first on, of an account held on one side."""
    params = env.default_params
    first, last = int(params.market.first), int(params.market.last)

    def look(bar):
        return env.observe(None, env.initial_state(bar, params.cash_low, params), None, params)

    seen = jax.jit(jax.vmap(look))(jnp.arange(first, last + 1))
    return {**seen, **observation(last + 1 - first, direction=direction)}, slice(first, last + 1)


# -- policies that do not look at prices ----------------------------------------------------------


def test_constant_rules_take_their_action() -> None:
    env = env_of(action_levels=(0.5, -1.0, 0.0, 1.0))
    assert int(baselines.always_flat(env)(observation(), DRAW)) == 2
    assert int(baselines.always_long(env)(observation(), DRAW)) == 3
    batch = baselines.always_long(env)(observation(4), jnp.zeros(4))
    assert batch.tolist() == [3] * 4
    assert batch.dtype == jnp.int32
    assert baselines.constant(-0.5)(observation(2), jnp.zeros(2)).tolist() == [-0.5, -0.5]


def test_constant_rules_of_brackets_and_numbers() -> None:
    env = brackets(include_close_action=True)
    rows = env.action_description()["rows"]
    assert rows[int(baselines.always_flat(env)(observation(), DRAW))][0] == 2
    assert rows[int(baselines.always_long(env)(observation(), DRAW))] == [1, -0.1, 0.2]
    assert rows[int(baselines.always_flat(brackets())(observation(), DRAW))][0] == 0
    number = env_of(action="continuous")
    for rule, expected in ((baselines.always_flat, 0.0), (baselines.always_long, 1.0)):
        action = rule(number)(observation(3), jnp.zeros(3))
        assert action.tolist() == [expected] * 3
        assert action.dtype == jnp.float32


@pytest.mark.parametrize("direction", [-1, 0, 1])
def test_buy_and_hold_keeps_what_it_holds(direction) -> None:
    policy = baselines.buy_and_hold(env_of())
    assert int(policy(observation(direction=direction), DRAW)) == (0 if direction < 0 else 4)
    spot = baselines.buy_and_hold(env_of(leverage=1))
    assert int(spot(observation(direction=direction), DRAW)) == 2


def test_actions_that_an_environment_lacks() -> None:
    only_sides = env_of(action_levels=(-1.0, 1.0))
    message = (
        r"^always_flat: the environment has no action for no position; configure level 0, hold"
    )
    with pytest.raises(ValueError, match=message):
        baselines.always_flat(only_sides)
    with pytest.raises(ValueError, match=r"^moving_average_cross: .* no action for no position"):
        baselines.moving_average_cross(only_sides, time_frame="1min")
    without = env_of(action_levels=(-1.0, 0.0))
    for rule in (baselines.always_long, baselines.buy_and_hold):
        with pytest.raises(ValueError, match=f"^{rule.__name__}: .* a long position; configure a"):
            rule(without)


def test_random_is_uniform_and_never_out_of_range() -> None:
    rule = jax.jit(baselines.random(4))
    draws = jnp.linspace(0, 1, 400, endpoint=False)
    assert np.bincount(rule(observation(400), draws)).tolist() == [100] * 4
    almost_one = jnp.float32(np.nextafter(np.float32(1), np.float32(0)))
    assert int(rule(observation(), almost_one)) == 3
    assert baselines.random(env_of())(observation(5), jnp.arange(5) / 5).tolist() == [0, 1, 2, 3, 4]
    number = baselines.random(env_of(action="continuous"))
    np.testing.assert_allclose(number(observation(3), jnp.array([0, 0.5, 0.75])), [-1, 0, 0.5])


def test_rules_map_over_a_batch() -> None:
    rule = baselines.random(3)
    draws = jnp.array([0.0, 0.4, 0.9])
    mapped = jax.vmap(rule)(observation(3), draws)
    assert mapped.tolist() == rule(observation(3), draws).tolist() == [0, 1, 2]


def test_holding_equity_follows_the_price_and_stays_ruined() -> None:
    close = [100, 110, 90, 120]
    np.testing.assert_allclose(baselines.holding_equity(close, 1000), [1000, 1100, 900, 1200])
    levered = baselines.holding_equity([100, 110, 79, 120], 1000, leverage=5)
    np.testing.assert_allclose(levered, [1000, 1500, 0, 0])


# -- indicators, against pandas -------------------------------------------------------------------


def strength_of(close, period):
    change = pd.Series(close).diff()
    gain = change.clip(lower=0).rolling(period).mean()
    loss = (-change).clip(lower=0).rolling(period).mean()
    return 100 - 100 / (1 + gain / loss)


def stochastic_of(close, strength_period, period):
    strength = strength_of(close, strength_period)
    low, high = strength.rolling(period).min(), strength.rolling(period).max()
    return 100 * (strength - low) / (high - low)


def bands_of(close, window, deviations):
    rolling = pd.Series(close).rolling(window)
    width = deviations * rolling.std(ddof=0)
    return rolling.mean() - width, rolling.mean() + width


def windows_of(close, count):
    return np.lib.stride_tricks.sliding_window_view(close, count)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_indicators_agree_with_pandas(dtype) -> None:
    close = walk(price=100.0)
    with jax.enable_x64(dtype == "float64"):
        rows = jnp.asarray(windows_of(close, 30), dtype)
        found = {
            "average": baselines.moving_average(rows, 7),
            "lower": baselines.bollinger_bands(rows, 20, 2.5)[0],
            "upper": baselines.bollinger_bands(rows, 20, 2.5)[1],
            "strength": baselines.relative_strength(rows, 9)[..., -1],
            "stochastic": baselines.stochastic_strength(rows, 9, 12),
        }
        lower, upper = bands_of(close, 20, 2.5)
        expected = {
            "average": pd.Series(close).rolling(7).mean(),
            "lower": lower,
            "upper": upper,
            "strength": strength_of(close, 9),
            "stochastic": stochastic_of(close, 9, 12),
        }
        for name, values in expected.items():
            assert found[name].dtype == dtype
            tolerance = 1e-9 if dtype == "float64" else 2e-5
            np.testing.assert_allclose(
                found[name], values[29:], rtol=tolerance, atol=50 * tolerance, err_msg=name
            )


def test_worked_indicators() -> None:
    closes = jnp.array([10.0, 11, 10, 12, 11, 14])
    assert float(baselines.moving_average(closes, 3)) == pytest.approx(37 / 3)
    # Changes +1, -1, +2, -1, +3: of the last two 3 up and 1 down, before that 2 and 1, ...
    strength = [50, 100 * 2 / 3, 100 * 2 / 3, 75]
    np.testing.assert_allclose(baselines.relative_strength(closes, 2), strength, rtol=1e-6)
    assert float(baselines.stochastic_strength(closes, 2, 4)) == 100
    falling = baselines.stochastic_strength(closes[:-1], 2, 3)
    assert float(falling) == pytest.approx(100)
    lower, upper = baselines.bollinger_bands(closes[:4], 4, 2.0)
    assert float(lower) == pytest.approx(10.75 - 2 * np.sqrt(0.6875))
    assert float(upper) == pytest.approx(10.75 + 2 * np.sqrt(0.6875))


def test_nothing_moves() -> None:
    closes = jnp.full(30, 123.45)
    assert baselines.relative_strength(closes, 14).tolist() == [50] * 16
    assert float(baselines.stochastic_strength(closes, 14, 14)) == 50
    rising = jnp.arange(30.0)
    assert baselines.relative_strength(rising, 14).tolist() == [100] * 16
    assert float(baselines.stochastic_strength(rising, 14, 14)) == 50


# -- rules ----------------------------------------------------------------------------------------


def reverting_sides(close):
    lower, upper = bands_of(close, 15, 1.5)
    strength = stochastic_of(close, 7, 8)
    rise = (close < lower) & (strength < 30)
    fall = (close > upper) & (strength > 70)
    return np.where(rise, 1, np.where(fall, -1, np.nan))


def reverting(env):
    return baselines.mean_reversion(
        env, "1min", window=15, deviations=1.5, rsi_period=7, stochastic_period=8,
        oversold=30, overbought=70,
    )  # fmt: skip


def crossing_sides(close):
    series = pd.Series(close)
    return np.sign(series.rolling(4).mean() - series.rolling(11).mean()).to_numpy()


def crossing(env):
    return baselines.moving_average_cross(env, 4, 11, "1min")


RULES = {"mean_reversion": (reverting, reverting_sides), "cross": (crossing, crossing_sides)}


@pytest.mark.parametrize("direction", [-1, 0, 1])
@pytest.mark.parametrize("features", ["default", "ohlcv"])
@pytest.mark.parametrize("rule", RULES)
def test_rules_agree_with_pandas(rule, features, direction) -> None:
    make, sides = RULES[rule]
    env = env_of(features)
    seen, range_ = observed(env, direction)
    side = sides(walk())[range_]
    wanted = {int(one) for one in side[~np.isnan(side)]}
    assert wanted >= {-1, 1}
    held = np.where(np.isnan(side), direction, side).astype(int)
    found = jax.jit(make(env))(seen, jnp.zeros(held.shape))
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(env.levels[np.asarray(found)], held)


@pytest.mark.parametrize("rule", RULES)
def test_one_by_one_mapped_and_in_a_batch(rule) -> None:
    env = env_of()
    rules = RULES[rule][0](env)
    policy = jax.jit(rules)
    seen, _ = observed(env)
    draws = jnp.zeros(seen["account_state"].shape[0])
    batch = policy(seen, draws)
    assert set(np.asarray(batch).tolist()) >= {0, 4}
    np.testing.assert_array_equal(batch, jax.jit(jax.vmap(rules))(seen, draws))
    axes = jax.tree.map(lambda x: np.asarray(x[:200]).reshape(10, 20, *x.shape[1:]), seen)
    np.testing.assert_array_equal(policy(axes, draws[:200].reshape(10, 20)).ravel(), batch[:200])
    for k in (0, 50, 199):
        single = policy(jax.tree.map(lambda x, k=k: x[k], seen), DRAW)
        assert single.shape == ()
        assert int(single) == int(batch[k])


@pytest.mark.parametrize("rule", RULES)
def test_other_kinds_of_actions(rule) -> None:
    make = RULES[rule][0]
    seen, _ = observed(env_of())
    draws = jnp.zeros(seen["account_state"].shape[0])
    sides = np.asarray(jax.jit(make(env_of()))(seen, draws)) // 2 - 1
    assert set(sides.tolist()) >= {-1, 1}
    spot = env_of(leverage=1)
    held = np.asarray(jax.jit(make(spot))(seen, draws))
    np.testing.assert_array_equal(spot.levels[held], np.maximum(sides, 0))
    number = jax.jit(make(env_of(action="continuous")))(seen, draws)
    assert number.dtype == jnp.float32
    np.testing.assert_array_equal(number, sides)
    for env in (brackets(include_close_action=True), brackets(), LogWrapper(brackets())):
        rows = np.array(env.action_description()["rows"])
        found = rows[np.asarray(jax.jit(make(env))(seen, draws))]
        np.testing.assert_array_equal(found[sides != 0, 0], sides[sides != 0])
        assert set(found[sides == 0, 0]) <= {2.0 if env.config.include_close_action else 0.0}


def test_equal_closes_keep_the_side() -> None:
    config = SequentialTradingEnvConfig(
        time_frames="1min", window_sizes=30, execute_on="1min", features="ohlcv"
    )
    env = SequentialTradingEnv(bars([123.45] * 40), config)
    for make in (baselines.mean_reversion, baselines.moving_average_cross):
        for direction, level in ((0, 0.0), (1, 1.0)):
            seen, _ = observed(env, direction)
            actions = jax.jit(make(env))(seen, jnp.zeros(seen["account_state"].shape[0]))
            assert set(env.levels[np.asarray(actions)]) == {level}


@pytest.mark.parametrize("features", ["default", pytest.param("ohlcv", marks=pytest.mark.slow)])
def test_rules_earn_where_they_should(features) -> None:
    """The rules are policies of an evaluation, on markets made for either of them."""
    k = np.arange(240)
    markets = {
        "mean_reversion": 100 + 5 * np.sin(k / 4) + 0.3 * np.sin(2.1 * k),
        "moving_average_cross": 100 * np.exp(0.1 * np.cumsum(np.sin(k / 25)) / 10),
    }
    earned = {}
    for name, close in markets.items():
        config = SequentialTradingEnvConfig(
            time_frames="1min", window_sizes=30, execute_on="1min", leverage=2, features=features
        )
        env = SequentialTradingEnv(bars(close), config)
        for rule in markets:
            options = {"deviations": 1.0} if rule == "mean_reversion" else {}
            policy = getattr(baselines, rule)(env, **options)
            (record,) = evaluate.run(env, evaluate.RulePolicy(policy))
            earned[name, rule] = record["equity"][-1] / record["equity"][0] - 1
    assert earned["mean_reversion", "mean_reversion"] > 0.1
    assert earned["moving_average_cross", "moving_average_cross"] > 0.1
    assert earned["moving_average_cross", "mean_reversion"] < 0


def own_features(frame):
    return pd.DataFrame({"feature_close": frame["close"]}, index=frame.index)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: baselines.mean_reversion(env_of(), "1min", window=31),
            "^mean_reversion: needs 31 closes of 1Minute, its window has 30; set window_sizes to "
            "at least 31",
        ),
        (
            lambda: baselines.mean_reversion(env_of(), "1min", rsi_period=20),
            "^mean_reversion: needs 34 closes of 1Minute",
        ),
        (
            lambda: baselines.moving_average_cross(env_of()),  # the first time frame
            "^moving_average_cross: needs 20 closes of 5Minute, its window has 3",
        ),
        (
            lambda: baselines.moving_average_cross(env_of(), time_frame="1hour"),
            "^moving_average_cross: .* has no window of 1Hour; it has 5Minute, 1Minute",
        ),
        (
            lambda: baselines.mean_reversion(env_of(own_features), "1min"),
            "^mean_reversion: reads closes from the feature sets 'ohlcv' and 'default'; 1Minute "
            "has '.*own_features'",
        ),
        (
            lambda: baselines.mean_reversion(env_of(), "1min", window=0),
            "^mean_reversion: window must be a whole number >= 1; got 0",
        ),
        (
            lambda: baselines.mean_reversion(env_of(), "1min", deviations=-1),
            "^mean_reversion: deviations must be a number >= 0; got -1",
        ),
        (
            lambda: baselines.mean_reversion(env_of(), "1min", oversold=80, overbought=20),
            "^mean_reversion: needs 0 <= oversold < overbought <= 100; got 80 and 20",
        ),
        (
            lambda: baselines.moving_average_cross(env_of(), 20, 20, "1min"),
            "^moving_average_cross: fast must be below slow; got 20 and 20",
        ),
        (
            lambda: baselines.moving_average_cross(env_of(), 1.5, 20, "1min"),
            "^moving_average_cross: fast must be a whole number >= 1; got 1.5",
        ),
        (
            lambda: baselines.moving_average_cross(env_of(), time_frame="1min")(
                observation(), DRAW
            ),
            r"^moving_average_cross: the observation has no 'market_data_1Minute', it has "
            r"\['account_state'\]; use observation='dict'",
        ),
    ],
)
def test_errors(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()

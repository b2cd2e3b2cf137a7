"""An environment built on other rows after a decision shows and does the same up to it."""

from __future__ import annotations

import warnings

import jax
import numpy as np
import pandas as pd
import pytest

from jaxtrade import Rules, SequentialTradingEnv, SequentialTradingEnvConfig, trace
from tests.envs.builders import walk

MINUTE = pd.Timedelta("1min")
CASES = {
    "minutes": {"time_frames": "1min", "execute_on": "1min"},
    "four frames": {"time_frames": ("1min", "5min", "15min", "1h"), "execute_on": "5min"},
    "coarse only": {"time_frames": "15min", "execute_on": "1min"},
    "seven minutes": {"time_frames": ("7min", "2min"), "execute_on": "3min"},
    "seven paces": {"time_frames": ("5min", "1min"), "execute_on": "7min"},
}


def frame_of(gappy: bool) -> pd.DataFrame:
    frame = walk(700, 21, sigma=3e-3, gap=2e-3, funding=1e-4)
    frame["timestamp"] += pd.Timedelta("3min")  # bars at both ends are not covered
    if not gappy:
        return frame
    keep = np.random.default_rng(3).random(len(frame)) > 0.2
    keep[300:340] = False
    keep[[0, 1, 2, 3, -1]] = True
    return frame[keep].reset_index(drop=True)


def other_future(frame: pd.DataFrame, instant: pd.Timestamp) -> pd.DataFrame:
    """The same rows, but those that end after ``instant`` are different."""
    generator = np.random.default_rng(17)
    changed, later = frame.copy(), frame["timestamp"] + MINUTE > instant
    factor = np.exp(generator.normal(0, 0.2, later.sum()))
    for column in ("open", "high", "low", "close"):
        changed.loc[later, column] = frame.loc[later, column] * factor
    for column in ("volume", "funding"):
        changed.loc[later, column] = generator.random(later.sum())
    return changed


def build(frame: pd.DataFrame, case: str, rules: Rules) -> SequentialTradingEnv:
    config = SequentialTradingEnvConfig(
        **CASES[case],
        window_sizes=2,
        leverage=3,
        transaction_fee=4e-4,
        slippage=1e-3,
        bankrupt_threshold=0,
        random_start=False,
        rules=rules,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gaps are what is tested
        return SequentialTradingEnv(frame, config)


def run(env: SequentialTradingEnv, shared: SequentialTradingEnv, steps: int) -> dict:
    """An episode over the market of ``env``; equal shapes share the compiled code of ``shared``."""
    generator = np.random.default_rng(5)
    record = trace(
        shared,
        generator.integers(0, env.num_actions, steps),
        params=env.params(),
        draws=generator.random(steps),
        observations=True,
    )
    first = int(env.market.first)
    record["bar_time"] = env.market.open_minute[first : first + len(record["bar_time"])]
    return record


@pytest.mark.parametrize("fill_at", ["close", pytest.param("next_open", marks=pytest.mark.slow)])
@pytest.mark.parametrize("gappy", [False, True], ids=["dense", "gappy"])
@pytest.mark.parametrize("case", CASES)
def test_everything_up_to_a_decision_is_blind_to_what_follows(case, gappy, fill_at):
    frame, rules = frame_of(gappy), Rules(fill_at=fill_at)
    env = build(frame, case, rules)
    steps = min(60, int(env.market.last - env.market.first))
    record = run(env, env, steps)
    minutes, length = env.market.open_minute, env.market.spec.execute_on.minutes
    assert record["event"].any()
    for cut in (0, 1, steps // 3, steps - 2):
        decision = pd.Timestamp(
            (int(minutes[env.market.first]) + cut * length + length) * 60, unit="s"
        )
        other = run(build(other_future(frame, decision), case, rules), env, steps)
        states = ("cash", "quantity", "equity", "close", "account_state", "bar_time")
        for name in (*states, *env.market.spec.keys):
            np.testing.assert_array_equal(record[name][: cut + 1], other[name][: cut + 1], name)
        for name in ("reward", "event", "fill_price", "exit_kind", "cost", "terminated"):
            np.testing.assert_array_equal(record[name][:cut], other[name][:cut], name)
        # The order sent at the decision itself: its price is known only if it fills at the close.
        if fill_at == "close":
            assert_same(record, other, "fill_price", cut)
        # And the other future is another one.
        count = min(len(record["close"]), len(other["close"]))
        assert (record["close"][cut + 1 : count] != other["close"][cut + 1 : count]).any()


def assert_same(one, two, name, step):
    np.testing.assert_array_equal(one[name][step], two[name][step])


def test_the_newest_row_is_the_bar_that_prices_the_next_order():
    frame = frame_of(False)
    env = SequentialTradingEnv(
        frame,
        SequentialTradingEnvConfig(
            time_frames=("5min", "1min"), window_sizes=3, execute_on="5min", features="ohlcv"
        ),
    )
    record = trace(env, [2, 0, 2, 0], observations=True)
    newest = record["market_data_5Minute"][:, -1]
    np.testing.assert_array_equal(newest[:, 3], record["close"])
    np.testing.assert_array_equal(record["fill_price"], newest[:-1, 3])
    # The minute that ends with the decision closes there too.
    np.testing.assert_array_equal(record["market_data_1Minute"][:, -1, 3], record["close"])


def test_same_duration_in_another_spelling_gives_the_same_data():
    frame, texts = frame_of(False), []
    for frames, pace in ((("1min", "1h"), "5min"), ((1, "Minute"), (5, "min"))):
        config = SequentialTradingEnvConfig(
            time_frames=frames if frames[0] != 1 else ["1m", "1Hour"],
            window_sizes=2,
            execute_on=pace,
        )
        texts.append(SequentialTradingEnv(frame, config).market)
    one, two = texts
    assert one.spec == two.spec
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)

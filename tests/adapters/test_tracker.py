"""`TrainingTracker`: what it writes against the metrics of a trace, by hand, and in vectors."""

from __future__ import annotations

import copy

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit

import jaxtrade
from jaxtrade import metrics
from jaxtrade.adapters.gym import GymEnv
from jaxtrade.adapters.tracker import TrainingTracker, VectorTrainingTracker
from jaxtrade.adapters.vector import GymVectorEnv
from jaxtrade.tracking import (
    EPISODE_TAGS,
    LENGTH,
    MAX_DRAWDOWN,
    RETURN_ON_INVESTMENT,
    REWARD,
    SHARPE_RATIO,
    TRADES,
)
from jaxtrade.wrappers import BatchStepWrapper
from tests.adapters.builders import crash_env, env_of
from tests.envs.builders import env_on, golden_frame, walk

ACTIONS = np.array([2, 1, 1, 0])  # long, flat, flat, short


class Notes:
    """A writer that remembers."""

    def __init__(self):
        self.rows = []

    def write(self, step, values):
        assert tuple(values) == EPISODE_TAGS
        assert all(type(value) is float for value in values.values())
        self.rows.append((step, dict(values)))

    def close(self):
        raise AssertionError("the tracker does not own the writer")


def summary(env, actions):
    """The tags of an episode from its trace."""
    record = jaxtrade.trace(env, actions, float64=True)
    found = metrics.summarize(record, env.config.execution_frame)
    return {
        RETURN_ON_INVESTMENT: found["total_return"],
        SHARPE_RATIO: found["sharpe_ratio"],
        MAX_DRAWDOWN: found["max_drawdown"],
        TRADES: found["num_trades"],
        REWARD: record["reward"].sum(),
        LENGTH: record["reward"].size,
    }


def close_to(want, **tolerance):
    return pytest.approx(want, **{"rel": 1e-4, "abs": 1e-6, **tolerance})


def play(env, actions):
    env.reset(seed=0)
    for action in actions:
        env.step(action)


def test_numbers_by_hand():
    """10000 all in at 100, two bars later sold at 104, then flat: 10400."""
    env = env_on(golden_frame(), random_start=False, max_steps=4)
    notes = Notes()
    play(TrainingTracker(GymEnv(env), notes), [2, 2, 0, 0])
    ((step, row),) = notes.rows
    assert step == 4
    returns = np.array([0, 0.04, 0, 0])
    sharpe = returns.mean() / returns.std(ddof=1) * np.sqrt(525600)
    assert row == close_to(
        {
            RETURN_ON_INVESTMENT: 0.04,
            SHARPE_RATIO: sharpe,
            MAX_DRAWDOWN: 0,
            TRADES: 1,
            REWARD: np.log(1.04),
            LENGTH: 4,
        }
    )


def test_every_episode_is_written_with_the_metrics_of_its_trace():
    env = env_of(leverage=2, transaction_fee=0.0005, random_start=False, max_steps=12)
    episodes = [[4, 0, 4, 2, 1, 1, 4, 0, 0, 3, 2, 4], [0, 2, 0, 2, 0, 2, 0, 2, 0, 2, 0, 2]]
    notes = Notes()
    tracked = TrainingTracker(RecordEpisodeStatistics(GymEnv(env)), notes)
    for actions in episodes:
        play(tracked, actions)
    assert [step for step, _ in notes.rows] == [12, 24]
    for (_, row), actions in zip(notes.rows, episodes, strict=True):
        assert row == close_to(summary(env, actions))
    assert [row[TRADES] for _, row in notes.rows] == [7, 6]


def test_ruin_is_written_and_an_unfinished_episode_is_not():
    notes = Notes()
    tracked = TrainingTracker(GymEnv(crash_env()), notes)
    play(tracked, [2])
    play(tracked, [2, 2, 2])
    ((step, row),) = notes.rows
    assert step == 4
    assert row == close_to(summary(crash_env(), [2, 2, 2]))
    assert row[TRADES] == 1  # the liquidation
    assert row[LENGTH] == 3
    assert row[RETURN_ON_INVESTMENT] < -0.9


def test_a_time_limit_outside_does_not_end_an_episode_of_the_tracker():
    """It sees what it wraps: put the limit inside, or into the configuration."""
    notes = Notes()
    limited = TimeLimit(TrainingTracker(GymEnv(crash_env()), notes), 2)
    play(limited, [1, 1])
    assert notes.rows == []
    play(TrainingTracker(TimeLimit(GymEnv(crash_env()), 2), notes), [1, 1])
    assert [(step, row[LENGTH]) for step, row in notes.rows] == [(2, 2)]


def test_lanes_that_end_together_share_their_mean():
    env = crash_env(transaction_fee=0.0005)
    notes = Notes()
    tracked = TrainingTracker(GymVectorEnv(env, 4), notes)
    assert isinstance(tracked, VectorTrainingTracker)
    assert isinstance(tracked.unwrapped, GymVectorEnv)
    tracked.reset(seed=0)
    for _ in range(6):
        tracked.step(ACTIONS)
    assert [step for step, _ in notes.rows] == [12, 24]
    long, flat, short = (
        summary(env, [action] * count) for action, count in ((2, 3), (1, 6), (0, 6))
    )
    assert notes.rows[0][1] == close_to(long)
    # The long's second episode, two flat lanes and the short end with the sixth step.
    want = {tag: (long[tag] + 2 * flat[tag] + short[tag]) / 4 for tag in EPISODE_TAGS}
    assert notes.rows[1][1] == close_to(want)


def test_vectors_of_wrapped_environments():
    notes = Notes()
    envs = gymnasium.wrappers.vector.RecordEpisodeStatistics(GymVectorEnv(crash_env(), 4))
    tracked = TrainingTracker(envs, notes)
    tracked.reset(seed=0)
    for _ in range(3):
        tracked.step(ACTIONS)
    assert [row[LENGTH] for _, row in notes.rows] == [3]


def test_stable_baselines_vectors():
    pytest.importorskip(
        "stable_baselines3", reason="needs the extra 'sb3': pip install 'jaxtrade[sb3]'"
    )
    from stable_baselines3.common.vec_env import VecMonitor

    from jaxtrade.adapters.sb3 import SB3TrainingTracker, SB3VecEnv

    env = crash_env(transaction_fee=0.0005)
    want, notes = Notes(), Notes()
    ours = TrainingTracker(GymVectorEnv(env, 4), want)
    ours.reset(seed=0)
    theirs = SB3TrainingTracker(VecMonitor(SB3VecEnv(env, 4)), notes)
    theirs.reset()
    for _ in range(7):
        ours.step(ACTIONS)
        theirs.step(ACTIONS)
    assert len(notes.rows) == 2
    assert notes.rows == want.rows
    with pytest.raises(ValueError, match=r"^SB3TrainingTracker: expected an SB3VecEnv with infos"):
        SB3TrainingTracker(SB3VecEnv(env, 4, infos=False), notes)


def test_long_episodes_are_kept_whole():
    env = env_on(walk(400), random_start=False)
    actions = np.tile([2, 2, 1, 0], 100)[: env.market.num_bars - 1 - int(env.market.first)]
    notes = Notes()
    play(TrainingTracker(GymEnv(env), notes), actions)
    ((step, row),) = notes.rows
    assert step == actions.size > 300
    assert row == close_to(summary(env, actions), rel=1e-3)


def test_a_step_of_several_bars_is_annualised_as_one():
    env = env_of(random_start=False, max_steps=12)
    notes = Notes()
    play(TrainingTracker(GymEnv(BatchStepWrapper(env, 3)), notes), [2, 2, 0, 2])
    equity = jaxtrade.trace(env, np.repeat([2, 2, 0, 2], 3), float64=True)["equity"][::3]
    assert notes.rows[0][1][SHARPE_RATIO] == close_to(
        float(metrics.sharpe_ratio(equity, 525600 / 3)), rel=1e-3
    )


def test_what_is_tracked_is_passed_on_unchanged():
    plain, tracked = (GymEnv(crash_env()) for _ in range(2))
    tracked = copy.deepcopy(TrainingTracker(tracked, Notes()))
    assert plain.reset(seed=0)[1] == tracked.reset(seed=0)[1]
    for action in (2, 1, 0):
        one, two = plain.step(action), tracked.step(action)
        assert one[1:] == two[1:]
        np.testing.assert_array_equal(one[0]["account_state"], two[0]["account_state"])


@pytest.mark.parametrize(
    "env",
    [
        lambda: gymnasium.make("CartPole-v1"),
        lambda: gymnasium.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync"),
        lambda: gymnasium.vector.SyncVectorEnv([lambda: GymEnv(crash_env())] * 2),
    ],
    ids=["foreign", "foreign vector", "resets in the next step"],
)
def test_other_environments_are_refused(env):
    with pytest.raises(ValueError, match=r"^TrainingTracker: expected"):
        TrainingTracker(env(), Notes())

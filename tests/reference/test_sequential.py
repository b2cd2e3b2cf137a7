"""The recorded `sequential` trajectories replay: in float64 to 1e-9, in float32 without a flip."""

from __future__ import annotations

import numpy as np
import pytest

from jaxtrade import SequentialTradingEnvConfig
from tests.reference import recordings

RUNS = recordings.entries("sequential")
EXACT = ("bar_time", "held_bars", "event", "exit_kind", "terminated", "truncated")

pytestmark = [
    pytest.mark.skipif(
        not RUNS, reason="needs ../shared/reference (recorded trajectories), which is absent"
    ),
    pytest.mark.filterwarnings("ignore:data gaps"),
    pytest.mark.filterwarnings("ignore:action_levels. negative levels"),
    pytest.mark.filterwarnings("ignore:time frame"),
]


def names(run):
    return run["id"]


REPLAYED = [run for run in RUNS if run["id"] != recordings.WITHOUT_TRANSITION]


def test_every_recording_is_there():
    assert len(RUNS) == 36


@pytest.mark.parametrize("run", REPLAYED, ids=names)
def test_replays_in_float64(run):
    recording = recordings.load(run)
    env = recordings.sequential(recording)
    ours = recordings.replay(env, recording, float64=True)
    wiped = recordings.WIPED_OUT.get(recording.id)
    steps = len(recording.arrays["step_action"]) if wiped is None else wiped + 1
    theirs = recordings.recorded(recording, steps)
    assert len(ours["reward"]) == steps
    if wiped is not None:
        assert ours["terminated"][wiped] and ours["reward"][wiped] == -10
        for name in ("terminated", "reward"):
            ours[name], theirs[name] = ours[name][:wiped], theirs[name][:wiped]
    for name, values in theirs.items():
        if name in EXACT:
            np.testing.assert_array_equal(ours[name], values, err_msg=name)
        else:
            # abs(x - y) <= 1e-9 (1 + abs(y))
            np.testing.assert_allclose(ours[name], values, rtol=1e-9, atol=1e-9, err_msg=name)


def test_an_episode_without_a_transition_is_refused():
    recording = recordings.load(next(r for r in RUNS if r["id"] == recordings.WITHOUT_TRANSITION))
    with pytest.raises(
        ValueError, match=r"^max_steps: must be None or a whole number >= 1; got 0\.$"
    ):
        SequentialTradingEnvConfig(**recordings.shared_config(recording, "max_steps"))


@pytest.mark.slow
@pytest.mark.parametrize("run", REPLAYED, ids=names)
def test_float32_stays_close_to_float64(run):
    recording = recordings.load(run)
    env = recordings.sequential(recording)
    single = recordings.replay(env, recording, float64=False)
    double = recordings.replay(env, recording, float64=True)
    recordings.assert_close_in_float32(single, double)


def coarser_than_execution(env):
    spec = env.market.spec
    return [frame.minutes > spec.execute_on.minutes for frame in spec.time_frames]


@pytest.mark.parametrize("run", RUNS[::6], ids=names)
def test_trace_returns_the_recorded_windows(run):
    recording = recordings.load(run)
    env = recordings.sequential(recording)
    ours = recordings.replay(env, recording, float64=True, observations=True)
    frames = recording.config["time_frames"]
    for given, key, coarse in zip(
        frames, env.market.spec.keys, coarser_than_execution(env), strict=True
    ):
        theirs = recording.arrays[f"obs_{given}_window"]
        # The recordings show a bar coarser than the execution bar one execution bar late.
        later = int(coarse)
        rows = len(theirs) - later
        np.testing.assert_array_equal(ours[key][:rows], theirs[later:], err_msg=key)

"""The recorded `sequential_sltp` trajectories replay in float64 to 1e-9, brackets included."""

from __future__ import annotations

import numpy as np
import pytest

from tests.reference import recordings

RUNS = recordings.entries("sequential_sltp")
EXACT = ("bar_time", "held_bars", "event", "exit_kind", "terminated", "truncated")

pytestmark = [
    pytest.mark.skipif(
        not RUNS, reason="needs ../shared/reference (recorded trajectories), which is absent"
    ),
    pytest.mark.filterwarnings("ignore:data gaps"),
    pytest.mark.filterwarnings("ignore:time frame"),
]


def test_every_recording_is_there():
    assert len(RUNS) == 34


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run["id"])
def test_replays_in_float64(run):
    recording = recordings.load(run)
    env = recordings.sequential_sltp(recording)
    recordings.assert_same_table(env, recording)
    ours = recordings.replay(env, recording, float64=True)
    theirs = recordings.recorded(recording, len(recording.arrays["step_action"]))
    assert len(ours["reward"]) == len(theirs["reward"])
    for name, values in theirs.items():
        if name in EXACT:
            np.testing.assert_array_equal(ours[name], values, err_msg=name)
        else:
            np.testing.assert_allclose(ours[name], values, rtol=1e-9, atol=1e-9, err_msg=name)
    held = theirs["quantity"] != 0  # the recordings keep stale brackets while flat
    for name, theirs_name in (
        ("stop_price", "state_stop_loss"),
        ("target_price", "state_take_profit"),
    ):
        np.testing.assert_allclose(
            ours[name][held], recording.arrays[theirs_name][held], rtol=1e-9, err_msg=name
        )
        assert (ours[name][~held] == 0).all()


# At leverage 50 a round trip may move the equity by 50 roundings of a quantity, 3e-6 of it; this
# run makes some thirty and is 4.1e-5 off at its end.
BEYOND = {"run_0164": 2e-4}


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run["id"])
def test_float32_stays_close_to_float64(run):
    recording = recordings.load(run)
    env = recordings.sequential_sltp(recording)
    single = recordings.replay(env, recording, float64=False)
    double = recordings.replay(env, recording, float64=True)
    recordings.assert_close_in_float32(single, double, BEYOND.get(recording.id, 2e-5))

"""The recorded one-step episodes replay in float64 to 1e-9, from entry to exit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from jaxtrade import trace
from jaxtrade.core.rules import slack
from tests.reference import recordings

RUNS = recordings.entries("onestep")
EXACT = ("ep_opened", "ep_refused", "ep_exit_kind", "ep_rollout_bars", "ep_final_bar_time")
NUMBERS = (
    "ep_base_price",
    "ep_initial_portfolio_value",
    "ep_exit_fee",
    "ep_final_balance",
    "ep_final_position_size",
    "ep_final_entry_price",
    "ep_final_portfolio_value",
)
# Of episodes that opened a position; the recordings leave NaN in the others.
OPENED = (
    "ep_exec_price",
    "ep_open_fee",
    "ep_open_balance",
    "ep_open_position_size",
    "ep_open_liquidation_price",
    "ep_open_stop_loss",
    "ep_open_take_profit",
)
HOLDING_TIME = 3  # of the account state; the recordings never age it

pytestmark = [
    pytest.mark.skipif(
        not RUNS, reason="needs ../shared/reference (recorded trajectories), which is absent"
    ),
    pytest.mark.filterwarnings("ignore:data gaps"),
    pytest.mark.filterwarnings("ignore:time frame"),
]


def test_every_recording_is_there():
    assert len(RUNS) == 17


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run["id"])
def test_float32_stays_close_to_float64(run):
    """The same decisions and exits; money and rewards within the rounding of a leveraged trade."""
    recording = recordings.load(run)
    env = recordings.one_step(recording)
    played = ~recording.arrays["ep_truncated_at_reset"]
    given = {
        "start": recording.arrays["ep_start_time"][played],
        "draws": recording.draws[played],
    }
    actions = recording.arrays["ep_action"][played]
    single = trace(env, actions, **given)
    double = trace(env, actions, float64=True, **given)
    for name in (*EXACT, "ep_terminated", "ep_truncated"):
        np.testing.assert_array_equal(single[name], double[name], err_msg=name)
    equity = double["ep_final_portfolio_value"]
    residue = slack(np.dtype(np.float32)) * double["ep_initial_portfolio_value"]
    error = np.abs(single["ep_final_portfolio_value"] - equity)
    assert (error <= np.maximum(2e-5 * equity, residue)).all(), error.max()
    error = np.abs(single["ep_reward"] - double["ep_reward"])
    assert (error <= np.where(double["ep_exit_kind"] > 0, 2e-5, 1e-6)).all(), error.max()


def assert_close(ours, theirs, name):
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run["id"])
def test_replays_in_float64(run):
    recording = recordings.load(run)
    env = recordings.one_step(recording)
    recordings.assert_same_table(env, recording)
    # An episode that starts on the last bar has no transition and is none of ours.
    played = ~recording.arrays["ep_truncated_at_reset"]
    assert played.sum() == (59 if recording.id == "run_0207" else len(played))
    theirs = {
        name: values[played]
        for name, values in recording.arrays.items()
        if name.startswith("ep_") and len(values) == len(played)
    }
    ours = trace(
        env,
        theirs["ep_action"],
        start=theirs["ep_start_time"],
        draws=recording.draws[played],
        float64=True,
    )
    np.testing.assert_array_equal(ours["ep_start_time"], theirs["ep_start_time"])
    for name in EXACT:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    for name in NUMBERS:
        assert_close(ours[name], theirs[name], name)
    opened = theirs["ep_opened"]
    for name in OPENED:
        assert_close(ours[name][opened], theirs[name][opened], name)
    exited = theirs["ep_exit_kind"] > 0
    assert_close(ours["ep_exit_price"][exited], theirs["ep_exit_price"][exited], "ep_exit_price")
    assert_close(ours["ep_reward"], theirs["ep_reward_f64"], "ep_reward")
    still_open = theirs["ep_final_position_size"] != 0
    np.testing.assert_array_equal(ours["ep_truncated"], still_open)
    np.testing.assert_array_equal(ours["ep_terminated"], ~still_open)
    age = np.where(still_open, theirs["ep_rollout_bars"], 0)
    np.testing.assert_array_equal(ours["ep_final_hold_counter"], age)
    assert_close(
        np.delete(ours["ep_final_account_state"], HOLDING_TIME, axis=1),
        np.delete(theirs["ep_final_account_f64"], HOLDING_TIME, axis=1),
        "ep_final_account_state",
    )


@pytest.mark.parametrize("run", RUNS[:2], ids=lambda run: run["id"])
def test_the_rewards_are_the_sums_of_the_recorded_bar_returns(run):
    recording = recordings.load(run)
    env = recordings.one_step(recording)
    arrays = recording.arrays
    ours = trace(
        env, arrays["ep_action"], start=arrays["ep_start_time"], draws=recording.draws, float64=True
    )
    offsets = arrays["rollout_offsets"]
    sums = [arrays["rollout_returns"][a:b].sum() for a, b in itertools.pairwise(offsets)]
    assert_close(ours["ep_reward"], sums, "ep_reward")

"""`jaxtrade.trace` and the command `jaxtrade trace`."""

from __future__ import annotations

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jaxtrade import SequentialTradingEnv, SequentialTradingEnvConfig, trace
from jaxtrade.cli import main
from tests.envs.builders import MINUTES, label, walk

STATES = (
    *("bar_time", "close", "cash", "quantity", "entry_price", "liquidation_price"),
    *("equity", "held_bars", "account_state"),
)
STEPS = (
    *("reward", "terminated", "truncated", "event", "fill_price", "fill_quantity", "exit_kind"),
    *("exit_price", "exit_fee", "fee", "traded_notional", "cost", "funding", "closed_cash"),
    "action",
)
FIELDS = {
    **MINUTES,
    "window_sizes": 3,
    "leverage": 3,
    "transaction_fee": 4e-4,
    "slippage": 1e-3,
    "initial_cash": (1000.0, 2000.0),
}


@functools.cache
def env():
    return SequentialTradingEnv(walk(60, 8), SequentialTradingEnvConfig(**FIELDS))


ACTIONS = np.array([4, 4, 0, 2, 3])


def test_names_shapes_and_dtypes():
    record = trace(env(), ACTIONS)
    assert set(record) == {*STATES, *STEPS, "leverage"}
    assert all(isinstance(value, np.ndarray) for value in record.values())
    assert {len(record[name]) for name in STATES} == {6}
    assert {len(record[name]) for name in STEPS} == {5}
    assert record["account_state"].shape == (6, 6)
    assert record["bar_time"].dtype == np.int64
    assert record["terminated"].dtype == record["truncated"].dtype == bool
    assert record["event"].dtype == record["exit_kind"].dtype == np.int32
    assert record["cash"].dtype == np.float32
    assert float(record["leverage"]) == 3


def test_states_and_steps_fit_together():
    record = trace(env(), ACTIONS, float64=True)
    times = record["bar_time"]
    assert times[0] == label(int(env().market.first)).value  # the first usable bar
    assert (np.diff(times) == 60_000_000_000).all()
    assert (record["cash"][0], record["quantity"][0], record["entry_price"][0]) == (1000, 0, 0)
    np.testing.assert_allclose(np.diff(np.log(record["equity"])), record["reward"], atol=1e-12)
    np.testing.assert_allclose(np.diff(record["quantity"]), record["fill_quantity"], rtol=1e-12)
    np.testing.assert_array_equal(np.isnan(record["fill_price"]), record["fill_quantity"] == 0)
    first = int(env().market.first)
    np.testing.assert_array_equal(record["close"], env().market.ohlcv[first : first + 6, 3])


def test_start_is_the_label_of_a_bar():
    times = [label(20), str(label(20)), int(label(20).value)]
    records = [trace(env(), ACTIONS, start=start) for start in times]
    for record in records:
        assert record["bar_time"][0] == label(20).value
        np.testing.assert_array_equal(record["equity"], records[0]["equity"])
    # Before the first usable bar, rows that do not exist are zero rows.
    early = trace(env(), ACTIONS, start=label(0), observations=True)
    assert not early["market_data_1Minute"][0, :2].any()
    assert early["market_data_1Minute"][0, 2].any()


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (label(60), "no bar of 1Minute starts then; bars start from 2024-01-01 00:00"),
        (label(3) + pd.Timedelta("1s"), "no bar of 1Minute starts then"),
        (label(59), "is the last bar; an episode needs one more"),
    ],
)
def test_start_is_refused(start, message):
    with pytest.raises(ValueError, match=message):
        trace(env(), ACTIONS, start=start)


def test_it_ends_at_the_first_done():
    record = trace(env(), ACTIONS, start=label(57))
    assert len(record["reward"]) == 2
    np.testing.assert_array_equal(record["truncated"], [False, True])
    params = env().default_params.replace(max_steps_in_episode=jnp.int32(3))
    record = trace(env(), ACTIONS, params=params)
    np.testing.assert_array_equal(record["truncated"], [False, False, True])
    assert len(record["cash"]) == 4
    ruined = env().default_params.replace(bankrupt_threshold=jnp.float32(0.9999))
    record = trace(env(), ACTIONS, params=ruined)
    assert record["terminated"][-1]
    assert not record["terminated"][:-1].any()


def test_the_record_is_that_of_the_steps():
    """Beside a loop over `step_env` with the same draws."""
    record = trace(env(), ACTIONS, draws=np.full(5, 0.25), observations=True)
    state = env().initial_state(env().market.first, jnp.float32(1000), env().default_params)
    params = env().default_params
    step = jax.jit(env().transition)
    for k, action in enumerate(ACTIONS):
        shown = env().observe(None, state, None, params)
        np.testing.assert_array_equal(
            record["market_data_1Minute"][k], shown["market_data_1Minute"]
        )
        np.testing.assert_allclose(record["account_state"][k], shown["account_state"], rtol=1e-6)
        state, reward, _, info = step(state, jnp.int32(action), jnp.float32(0.25), params)
        np.testing.assert_allclose(record["reward"][k], reward, rtol=1e-4, atol=1e-6)
        for name in ("event", "exit_kind"):
            assert record[name][k] == info[name]
        for name in ("fill_price", "fee", "cost", "traded_notional"):
            np.testing.assert_allclose(record[name][k], info[name], rtol=1e-5)
        np.testing.assert_allclose(record["cash"][k + 1], state.account.cash, atol=1e-2)
    assert record["market_data_1Minute"].shape == (6, 3, 5)


def test_draws_price_the_fills():
    for draw in (0.0, 0.25, 0.75):
        record = trace(env(), [4, 2], draws=[draw, 0.5], float64=True)
        close = record["close"]
        expected = [close[0] * (1 + 1e-3 * draw), close[1] * (1 - 1e-3 * 0.5)]
        np.testing.assert_allclose(record["fill_price"], expected, rtol=1e-12)
    half = trace(env(), [4, 2], draws=[0.5, 0.5], float64=True)
    np.testing.assert_array_equal(half["cash"], trace(env(), [4, 2], float64=True)["cash"])


def test_a_key_draws_start_cash_and_slippage():
    one, again, two = (trace(env(), ACTIONS, key=jax.random.key(k)) for k in (1, 1, 2))
    for name in one:
        np.testing.assert_array_equal(one[name], again[name])
    assert one["bar_time"][0] != two["bar_time"][0]
    assert one["cash"][0] != two["cash"][0]
    assert 1000 <= one["cash"][0] < 2000
    slip = [r["fill_price"][0] / r["close"][0] - 1 for r in (one, two)]
    assert abs(slip[0] - slip[1]) > 1e-5
    # A start that is given keeps the cash and the slippage of the key.
    fixed = trace(env(), ACTIONS, key=jax.random.key(1), start=label(20))
    assert fixed["cash"][0] == one["cash"][0]
    assert fixed["bar_time"][0] == label(20).value
    given = trace(env(), ACTIONS, key=jax.random.key(1), draws=np.full(5, 0.5), float64=True)
    np.testing.assert_allclose(given["fill_price"][0], given["close"][0] * 1.0005, rtol=1e-12)


def test_float64_is_computed_from_unrounded_prices():
    double, single = trace(env(), ACTIONS, float64=True), trace(env(), ACTIONS)
    for name in ("cash", "equity", "quantity", "fee", "reward", "account_state", "close"):
        assert double[name].dtype == np.float64
        assert single[name].dtype == np.float32
    first = int(env().market.first)
    np.testing.assert_array_equal(double["close"], env().market.ohlcv[first : first + 6, 3])
    np.testing.assert_allclose(double["equity"], single["equity"], rtol=2e-5)
    assert not jax.config.jax_enable_x64
    assert double["quantity"][1] != np.float32(double["quantity"][1])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"actions": []}, r"^actions: expected shape \[T\] with T >= 1; got \(0,\)\.$"),
        ({"actions": 3}, r"^actions: expected shape \[T\] with T >= 1; got \(\)\.$"),
        ({"actions": [[1]]}, r"^actions: expected shape \[T\] with T >= 1; got \(1, 1\)\.$"),
        ({"actions": [0, 5]}, r"^action: must be in \[0, 5\); got 5\.$"),
        ({"actions": [0, -1]}, r"^action: must be in \[0, 5\); got -1\.$"),
        ({"actions": [0, 1], "draws": [0.5]}, r"^draws: expected 2 numbers in \[0, 1\)\.$"),
        ({"actions": [0], "draws": [1.0]}, r"^draws: expected 1 numbers in \[0, 1\)\.$"),
        ({"actions": [0], "draws": [float("nan")]}, r"^draws: expected 1 numbers in \[0, 1\)\.$"),
    ],
)
def test_wrong_arguments_are_refused(given, message):
    actions = given.pop("actions")
    with pytest.raises(ValueError, match=message):
        trace(env(), actions, **given)


# The command.


@pytest.fixture
def files(tmp_path):
    walk(60, 8).to_csv(tmp_path / "rows.csv", index=False)
    fields = SequentialTradingEnvConfig(**FIELDS).to_dict()
    (tmp_path / "env.json").write_text(json.dumps(fields))
    np.save(tmp_path / "actions.npy", ACTIONS)
    np.save(tmp_path / "draws.npy", np.full(5, 0.25))
    return tmp_path


def command(folder, *more, **changed):
    given = {
        "frame": "rows.csv",
        "config": "env.json",
        "actions": "actions.npy",
        "out": "trace.npz",
        **changed,
    }
    words = [f"--{name}={folder / value}" for name, value in given.items()]
    return main(["trace", *words, *more])


def test_command_writes_what_trace_returns(files, capsys):
    assert command(files, "--float64", "--observations", "--start", str(label(20))) == 0
    with np.load(files / "trace.npz", allow_pickle=False) as arrays:
        written = dict(arrays)
    expected = trace(env(), ACTIONS, float64=True, observations=True, start=label(20))
    assert written.keys() == expected.keys()
    for name, value in expected.items():
        assert written[name].dtype == value.dtype
        np.testing.assert_allclose(written[name], value, rtol=1e-12, atol=1e-9)
    out = capsys.readouterr().out
    assert "trace.npz: 5 steps, final equity " in out
    assert sorted(path.name for path in files.iterdir()) == [
        *("actions.npy", "draws.npy", "env.json", "rows.csv", "trace.npz"),
    ]


@pytest.mark.parametrize("suffix", ["csv.gz", "parquet", "npz"])
def test_command_reads_every_kind_of_frame(files, suffix):
    frame, path = walk(60, 8), files / f"rows.{suffix}"
    if suffix == "csv.gz":
        frame.to_csv(path, index=False)
    elif suffix == "parquet":
        frame.to_parquet(path)
    else:
        np.savez(path, **{name: frame[name].to_numpy() for name in frame})
    assert command(files, "--draws", str(files / "draws.npy"), frame=path.name) == 0
    with np.load(files / "trace.npz") as written:
        equity = written["equity"]
    expected = trace(env(), ACTIONS, draws=np.full(5, 0.25))
    np.testing.assert_allclose(equity, expected["equity"], rtol=1e-6)


def test_command_takes_a_seed(files):
    assert command(files, "--seed", "4") == 0
    with np.load(files / "trace.npz") as written:
        expected = trace(env(), ACTIONS, key=jax.random.key(4))
        np.testing.assert_array_equal(written["bar_time"], expected["bar_time"])


WRONG = {
    "no frame": ({"frame": "none.csv"}, "none.csv: cannot be read: "),
    "no config": ({"config": "none.json"}, "none.json: cannot be read: "),
    "no actions": ({"actions": "none.npy"}, "none.npy: cannot be read: "),
    "unknown type": ({"frame": "env.json"}, "env.json: unknown file type; expected .csv"),
    "bad json": ({"config": "broken.json"}, "broken.json: cannot be read: "),
    "no object": ({"config": "list.json"}, "list.json: expected a JSON object"),
    "unknown field": (
        {"config": "typo.json"},
        "SequentialTradingEnvConfig: unknown field 'leverge'; did you mean 'leverage'?",
    ),
    "wrong field": (
        {"config": "wrong.json"},
        "leverage: must be a finite number in [1, 125]; got 0.",
    ),
    "bad npy": ({"actions": "broken.npy"}, "broken.npy: cannot be read: "),
    "pickled npy": ({"actions": "pickled.npy"}, "pickled.npy: cannot be read: "),
    "wrong action": ({"actions": "beyond.npy"}, "action: must be in [0, 5); got 9."),
    "bad rows": ({"frame": "unsorted.csv"}, "timestamp: row 1 (2024-01-01 00:58:00"),
}


@pytest.mark.parametrize("case", WRONG)
def test_command_leaves_files_alone_on_an_error(files, capsys, case):
    changed, message = WRONG[case]
    (files / "broken.json").write_text("{")
    (files / "list.json").write_text("[1]")
    (files / "typo.json").write_text('{"leverge": 2}')
    (files / "wrong.json").write_text('{"leverage": 0}')
    (files / "broken.npy").write_bytes(b"\x93NUMPY\x01")
    np.save(files / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(files / "beyond.npy", np.array([0, 9]))
    walk(60, 8)[::-1].to_csv(files / "unsorted.csv", index=False)
    (files / "trace.npz").write_bytes(b"precious")
    before = {path.name: path.read_bytes() for path in files.iterdir()}
    assert command(files, **changed) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in error
    assert {path.name: path.read_bytes() for path in files.iterdir()} == before


def test_command_names_an_unknown_environment(files, capsys):
    assert command(files, "--env", "SequentialTradingEnvs") == 1
    assert "did you mean 'SequentialTradingEnv'" in capsys.readouterr().err


def test_command_refuses_a_start_that_does_not_exist(files, capsys):
    assert command(files, "--start", "2030-01-01") == 1
    assert "no bar of 1Minute starts then" in capsys.readouterr().err
    assert not (files / "trace.npz").exists()


def test_command_makes_the_folder_of_its_output(files):
    assert command(files, out="new/trace.npz") == 0
    assert (files / "new" / "trace.npz").exists()


def test_command_needs_its_arguments(files, capsys):
    assert main(["trace", "--frame", "x.csv"]) == 2
    assert "--actions" in capsys.readouterr().err


def test_a_failed_write_keeps_the_old_file(files, monkeypatch, capsys):
    (files / "trace.npz").write_bytes(b"precious")

    def full(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr("numpy.savez_compressed", full)
    assert command(files) == 1
    assert "no space left on device" in capsys.readouterr().err
    assert (files / "trace.npz").read_bytes() == b"precious"
    assert not list(files.glob("*.tmp"))

"""The commands, from the words of a user to the files of a run."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents import cli, settings, training
from agents.ppo import PPOConfig
from agents.settings import RunSettings, Settings
from jaxtrade import SequentialTradingEnvConfig
from jaxtrade.bundle import Bundle
from tests.agents.conftest import hours

TINY = [
    "--num-envs",
    "8",
    "--rollout-steps",
    "8",
    "--minibatches",
    "2",
    "--epochs",
    "1",
    "--hidden-sizes",
    "8",
    "--updates-per-chunk",
    "2",
    "--random-policies",
    "2",
    "--window-sizes",
    "4",
    "--leverage",
    "2",
    "--transaction-fee",
    "0.0005",
]


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prices") / "hours.csv"
    hours(400).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def run(prices: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two seeds and two chunks."""
    out = tmp_path_factory.mktemp("runs")
    words = ["ppo", "--frame", str(prices), "--out", str(out), "--name", "first", *TINY]
    assert cli.train([*words, "--seeds", "2", "--total-steps", "200"]) == 0
    return out / "first"


def test_a_run_leaves_its_files(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert names == {
        "bundle.zip",
        "checkpoints",
        "config.json",
        "metrics.json",
        "progress.jsonl",
        "report.html",
    }
    metrics = json.loads((run / "metrics.json").read_text())
    assert len(metrics["policies"]["PPO"]["total_return"]) == 2
    assert {"buy and hold (no costs)", "always flat", "random"} <= set(metrics["policies"])
    assert "standard error" in metrics["caveat"]
    rows = [json.loads(line) for line in (run / "progress.jsonl").read_text().splitlines()]
    assert [row["update"] for row in rows] == [2, 4]  # 200 steps, rounded up to whole chunks
    assert all(row["nonfinite"] == 0 for row in rows)
    bundle = Bundle.load(run / "bundle.zip")
    chosen = metrics["seeds"].index(metrics["bundle_seed"])
    assert bundle.metrics["total_return"] == metrics["policies"]["PPO"]["total_return"][chosen]
    assert "<html" in (run / "report.html").read_text()


def test_the_resolved_settings_describe_the_run_again(run: Path) -> None:
    saved = json.loads((run / "config.json").read_text())
    again = Settings.from_dict(saved)
    assert again.to_dict() == saved
    assert again.learner.num_envs == 8
    assert again.environment.leverage == 2


def test_a_run_is_not_written_over(run: Path, prices: Path) -> None:
    before = (run / "config.json").read_bytes()
    words = ["ppo", "--frame", str(prices), "--out", str(run.parent), "--name", "first", *TINY]
    with pytest.raises(ValueError, match="already holds a run; continue it with --resume"):
        cli.train(words)
    assert (run / "config.json").read_bytes() == before


def test_a_run_goes_on_from_another_folder(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.train(["--resume", str(run), "--total-steps", "384"]) == 0
    said = capsys.readouterr()
    assert "resuming at update 4 of 6" in said.err
    assert '"update": 6' in said.out
    assert "held out" in said.out


def test_ctrl_c_finishes_the_chunk_and_saves(
    prices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*TINY, "--frame", str(prices), "--out", str(tmp_path), "--name", "stopped"]
    given = settings.parse_flags(words, Settings(), "x", "x")
    prepared = training.prepare(given)
    folder = training.open_folder(given)

    def interrupt(row: dict[str, Any]) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    finished = training.train(prepared, folder, interrupt)
    assert finished.interrupted
    assert len(finished.history) == 1
    assert signal.getsignal(signal.SIGINT) == before
    assert (folder / "checkpoints" / "2").is_dir()


def test_numbers_that_overflow_stop_the_run(
    prices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*TINY, "--frame", str(prices), "--out", str(tmp_path), "--name", "bad"]
    given = settings.parse_flags([*words, "--learning-rate", "1e38"], Settings(), "x", "x")
    prepared = training.prepare(given)
    folder = training.open_folder(given)
    with pytest.raises(ValueError, match=r"infinite or NaN values .*lower learning_rate"):
        training.train(prepared, folder)


def test_evaluate_repeats_the_run_on_the_same_range(
    run: Path, prices: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    start = metrics["ranges"]["test"]["first_decision"]
    report = tmp_path / "report.html"
    words = [str(run / "bundle.zip"), "--frame", str(prices), "--start", start]
    assert cli.evaluate([*words, "--random-policies", "2", "--json", "--report", str(report)]) == 0
    found = json.loads(capsys.readouterr().out)
    chosen = metrics["seeds"].index(metrics["bundle_seed"])
    for name, values in found["policies"]["bundle"].items():
        expected = metrics["policies"]["PPO"][name][chosen]
        np.testing.assert_allclose(values[0], expected, rtol=1e-9, err_msg=name)
    assert report.exists()
    assert cli.evaluate([*words, "--random-policies", "2"]) == 0
    assert "always long" in capsys.readouterr().out


def test_evaluate_refuses_a_damaged_bundle(run: Path, prices: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "bundle.zip"
    damaged.write_bytes((run / "bundle.zip").read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a readable bundle"):
        cli.evaluate([str(damaged), "--frame", str(prices)])


def flags_help() -> str:
    code = "import sys; from agents.cli import train; train(['ppo', '--help'])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


def test_every_field_is_a_flag_with_a_text() -> None:
    shown = flags_help()
    for owner in (RunSettings, SequentialTradingEnvConfig, PPOConfig):
        notes = settings.field_notes(owner)
        for field in dataclasses.fields(owner):
            if field.name == "rules":
                continue
            assert f"--{field.name.replace('_', '-')}" in shown, field.name
            if owner is not SequentialTradingEnvConfig:  # the shared fields are described elsewhere
                assert notes.get(field.name), field.name
    assert "--fill-at" in shown


@pytest.mark.parametrize(
    ("words", "section", "expected"),
    [
        (["--time-frames", "1hour", "4hour"], "environment", {"time_frames": ["1hour", "4hour"]}),
        (["--window-sizes", "6", "3", "--time-frames", "1hour", "4hour"], "environment",
         {"window_sizes": [6, 3]}),
        (["--window-sizes", "6"], "environment", {"window_sizes": 6}),
        (["--initial-cash", "5", "9"], "environment", {"initial_cash": [5.0, 9.0]}),
        (["--action-levels", "-1", "0", "1", "--leverage", "2"], "environment",
         {"action_levels": [-1.0, 0.0, 1.0]}),
        (["--reward", "log_return=1", "drawdown=0.1"], "environment",
         {"reward": {"log_return": 1.0, "drawdown": 0.1}}),
        (["--reward", "sharpe"], "environment", {"reward": "sharpe"}),
        (["--max-steps", "None"], "environment", {"max_steps": None}),
        (["--features", "ohlcv"], "environment", {"features": "ohlcv"}),
        (["--hidden-sizes", "4", "5"], "learner", {"hidden_sizes": [4, 5]}),
        (["--split", "0.5", "2024-01-10"], "run", {"split": ["0.5", "2024-01-10"]}),
        (["--fill-at", "next_open"], "environment", {}),
    ],
)  # fmt: skip
def test_flags_become_settings(words: list[str], section: str, expected: dict[str, Any]) -> None:
    found = settings.parse_flags(words, Settings(), "x", "x").to_dict()
    default = Settings().to_dict()
    for name, value in expected.items():
        assert found[section][name] == value
    if "--fill-at" in words:
        assert found["environment"]["rules"]["fill_at"] == "next_open"
    elif "--leverage" not in words and "--time-frames" not in words:
        del found[section][next(iter(expected))], default[section][next(iter(expected))]
        assert found == default


def test_a_function_can_be_named() -> None:
    base = settings.parse_flags(["--features", f"{__name__}:closes"], Settings(), "x", "x")
    assert base.environment.features is closes
    again = Settings.from_dict(json.loads(json.dumps(base.to_dict())))
    assert again.environment.features is closes
    with pytest.raises(ValueError, match=r"features: cannot import 'no.such:thing'"):
        settings.parse_flags(["--features", "no.such:thing"], Settings(), "x", "x")


def closes(bars: Any) -> Any:
    return bars[["close"]].rename(columns={"close": "feature_close"})


def test_a_file_gives_the_defaults_and_flags_win(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("[learner]\nnum_envs = 32\ngamma = 0.5\n[environment]\nleverage = 2\n")
    base = Settings.from_dict(settings.read_config(str(path)))
    found = settings.parse_flags(["--gamma", "0.6"], base, "x", "x")
    assert (found.learner.num_envs, found.learner.gamma) == (32, 0.6)
    assert found.environment.leverage == 2
    with pytest.raises(ValueError, match=r"learner: unknown field 'gama'; did you mean 'gamma'"):
        Settings.from_dict({"learner": {"gama": 1}})
    with pytest.raises(ValueError, match="did you mean 'leverage'"):
        Settings.from_dict({"environment": {"levrage": 1}})
    path.write_text("[learner")
    with pytest.raises(ValueError, match=r"run\.toml: cannot be read"):
        settings.read_config(str(path))


@pytest.mark.parametrize(
    ("run_settings", "message"),
    [
        ({"split": ("1.5",)}, "split: must be a fraction in"),
        ({"split": ("soon",)}, "split: must be a fraction in .* or a date, was 'soon'"),
        ({"split": ("0.1", "0.2", "0.3")}, "1 or 2 fractions"),
        ({"seeds": 0, "total_steps": "many"}, "total_steps: .*seeds: must be a whole number"),
        ({"name": "a/b"}, "name: must be the name of a folder"),
    ],
)
def test_wrong_run_settings_are_refused_before_anything_is_written(
    prices: Path, tmp_path: Path, run_settings: dict[str, Any], message: str
) -> None:
    given = Settings(run=RunSettings(frame=str(prices), out=str(tmp_path / "o"), **run_settings))
    with pytest.raises(ValueError, match=message):
        training.prepare(given)
    assert not (tmp_path / "o").exists()


def test_a_missing_file_names_the_samples() -> None:
    with pytest.raises(FileNotFoundError, match="bundled samples are eurusd_1h"):
        training.read_frame("nothing.csv")


def test_no_window_of_the_held_out_range_reaches_into_training(prices: Path) -> None:
    config = SequentialTradingEnvConfig(time_frames=("1hour", "4hour"), window_sizes=(4, 3))
    given = Settings(run=RunSettings(frame=str(prices)), environment=config)
    ranges = training.prepare(given).ranges
    gap = int(ranges.test.first) - int(ranges.train.last)
    assert gap == 12  # three bars of four hours
    assert ranges.validation is None


def test_usage_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.train([]) == 2
    assert "jaxtrade train ppo" in capsys.readouterr().err
    assert cli.train(["--help"]) == 0
    assert "--resume" in capsys.readouterr().out


def test_importing_the_package_is_light() -> None:
    code = """
import sys
import agents, agents.cli
heavy = {"jax", "flax", "optax", "orbax", "gymnax", "rich", "tyro", "pandas", "matplotlib"}
assert not heavy & {name.partition(".")[0] for name in sys.modules}
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_demo_takes_a_free_name(tmp_path: Path) -> None:
    from agents.demo import _free_name

    assert _free_name(tmp_path) == "demo"
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo-2").mkdir()
    assert _free_name(tmp_path) == "demo-3"


@pytest.mark.slow
def test_the_demo_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.demo(["--seeds", "2", "--total-steps", "60000", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "always flat" in said
    assert "cannot show much" in said
    assert (tmp_path / "demo" / "bundle.zip").exists()

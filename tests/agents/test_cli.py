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

import jax
import numpy as np
import pytest

from agents import algorithms, cli, curves, flags, policies, progress, ranges, settings, training
from agents.settings import RunSettings, Settings
from jaxtrade import SequentialTradingEnvConfig
from jaxtrade.bundle import Bundle
from jaxtrade.envs import REGISTRY
from tests.agents.conftest import hours

ENV = "SequentialTradingEnv"
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


@pytest.mark.slow
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
    given = flags.parse_flags(words, Settings(), "x", "x")
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
    given = flags.parse_flags([*words, "--learning-rate", "1e38"], Settings(), "x", "x")
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


KINDS = [
    ("ppo", None),
    ("a2c", None),
    ("grpo", None),
    ("dqn", "SequentialTradingEnvSLTP"),
    ("sac", None),
]


@pytest.mark.parametrize(("algorithm", "env"), KINDS)
def test_every_field_is_a_flag_with_a_text(
    algorithm: str, env: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.train([algorithm, *(["--env", env] if env else []), "--help"])
    shown = capsys.readouterr().out
    base = Settings.from_dict({}, algorithm, env)
    assert base.env == (env or ("OneStepTradingEnv" if algorithm == "grpo" else ENV))
    for owner in (RunSettings, type(base.environment), type(base.learner)):
        notes = {k: v for one in owner.__mro__ for k, v in flags.field_notes(one).items()}
        for field in dataclasses.fields(owner):
            if field.name == "rules":
                continue
            assert f"--{field.name.replace('_', '-')}" in shown, field.name
            assert notes.get(field.name), field.name
    assert "--fill-at" in shown
    assert base.env in shown
    assert ("--env-rollout-steps" in shown) == (algorithm == "grpo")


@pytest.mark.parametrize(("algorithm", "env"), [*KINDS, ("ppo", "OneStepTradingEnv")])
def test_settings_of_every_kind_survive_their_file(algorithm: str, env: str | None) -> None:
    base = Settings.from_dict({}, algorithm, env)
    again = Settings.from_dict(json.loads(json.dumps(base.to_dict())))
    assert again == base
    assert type(again.learner) is algorithms.find(algorithm).config_class
    assert set(cli.ENVIRONMENTS) == set(REGISTRY)
    assert flags.parse_flags([], base, "x", "x") == base
    words = ["--transaction-fee", "0.001", "--num-envs", "64"]
    given = flags.parse_flags(words, base, "x", "x")
    assert (given.environment.transaction_fee, given.learner.num_envs) == (0.001, 64)


def test_fields_of_one_name_have_two_flags() -> None:
    base = Settings.from_dict({}, "ppo", "OneStepTradingEnv")
    words = ["--rollout-steps", "3", "--env-rollout-steps", "7", "--stoploss-levels", "-0.01"]
    given = flags.parse_flags(words, base, "x", "x")
    assert (given.learner.rollout_steps, given.environment.rollout_steps) == (3, 7)
    assert given.environment.stoploss_levels == (-0.01,)


@pytest.mark.slow
def test_a_run_of_groups_is_judged_bar_by_bar(
    prices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "grpo", "--frame", str(prices), "--out", str(tmp_path), "--name", "groups",
        "--num-envs", "64", "--group-size", "8", "--hidden-sizes", "8", "--minibatches", "2",
        "--updates-per-chunk", "2", "--total-steps", "128", "--random-policies", "2",
        "--window-sizes", "30", "--leverage", "2", "--transaction-fee", "0.0005",
        "--stoploss-levels", "-0.01", "--takeprofit-levels", "0.01", "0.02",
        "--outcomes", "table", "--tracker", "tensorboard",
    ]  # fmt: skip
    pytest.importorskip("tensorboardX")
    assert cli.train(words) == 0
    said = capsys.readouterr()
    assert "GRPO:" in said.err
    assert "5 bracket actions" in said.err
    folder = tmp_path / "groups"
    assert list(folder.glob("events.out.tfevents.*"))
    metrics = json.loads((folder / "metrics.json").read_text())
    rows = ["GRPO", "buy and hold (no costs)", "always long", "always flat", "moving averages",
            "mean reversion", "random"]  # fmt: skip
    assert sorted(metrics["policies"]) == sorted(rows)
    row = json.loads((folder / "progress.jsonl").read_text().splitlines()[-1])
    assert 0 <= row["groups_alike"] <= 1
    assert row["episodes"] == row["steps"] == 128
    assert "equity_ratio" not in row  # the table does not tell
    bundle = Bundle.load(folder / "bundle.zip")
    assert bundle.environment == "OneStepTradingEnv"
    start = metrics["ranges"]["test"]["first_decision"]
    words = [str(folder / "bundle.zip"), "--frame", str(prices), "--start", start, "--json"]
    assert cli.evaluate([*words, "--random-policies", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(
        found["policies"]["bundle"]["total_return"], metrics["policies"]["GRPO"]["total_return"]
    )


@pytest.mark.slow
def test_a_run_of_numbers_ends_in_a_bundle_of_numbers(
    prices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "sac", "--frame", str(prices), "--out", str(tmp_path), "--name", "numbers",
        "--action", "continuous", "--num-envs", "8", "--rollout-steps", "4",
        "--batch-size", "16", "--gradient-steps", "2", "--replay-capacity", "64",
        "--hidden-sizes", "8", "--updates-per-chunk", "2", "--total-steps", "64",
        "--random-policies", "2", "--window-sizes", "4", "--leverage", "2",
    ]  # fmt: skip
    assert cli.train(words) == 0
    assert "level in [-1, 1]" in capsys.readouterr().err
    folder = tmp_path / "numbers"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {"SAC", "always long", "always flat", "random"} <= set(metrics["policies"])
    bundle = Bundle.load(folder / "bundle.zip")
    seen = {"market_data_1Hour": np.zeros((3, 4, 5)), "account_state": np.zeros((3, 6))}
    action = np.asarray(bundle.decide(seen))
    assert action.shape == (3,)
    assert (np.abs(action) <= 1).all()
    assert bundle.num_actions == 0
    # The learnt network may go on as the beginning of another run.
    again = flags.parse_flags(
        [*words[1:], "--initial-policy", str(folder / "bundle.zip"), "--seeds", "2"],
        Settings.from_dict({}, "sac"), "x", "x",
    )  # fmt: skip
    state = training.start_state(training.prepare(again))
    _, variables = policies.from_bundle(bundle)
    for seed in range(2):
        jax.tree.map(
            np.testing.assert_array_equal,
            jax.tree.map(lambda x, k=seed: x[k], state.params),
            variables["params"],
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "env", "more"),
    [
        pytest.param(
            "a2c", "SequentialTradingEnvSLTP", ["--num-envs", "8", "--rollout-steps", "4"],
            marks=pytest.mark.slow,
        ),
        ("dqn", None, ["--num-envs", "8", "--rollout-steps", "4", "--batch-size", "16",
                       "--gradient-steps", "2", "--replay-capacity", "64"]),
        ("grpo", "SequentialTradingEnv", ["--num-envs", "8", "--group-size", "4",
                                          "--minibatches", "2", "--rollout-steps", "4"]),
        pytest.param(
            "ppo", "OneStepTradingEnv",
            ["--num-envs", "8", "--rollout-steps", "1", "--minibatches", "2"],
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_every_learner_runs_and_says_how_it_goes(
    prices: Path, tmp_path: Path, algorithm: str, env: str | None, more: list[str]
) -> None:
    base = Settings.from_dict({}, algorithm, env)
    words = [
        *more, "--frame", str(prices), "--out", str(tmp_path), "--name", "x",
        "--hidden-sizes", "8", "--updates-per-chunk", "2", "--total-steps", "8",
        "--window-sizes", "4", "--leverage", "2",
    ]  # fmt: skip
    prepared = training.prepare(flags.parse_flags(words, base, "x", "x"))
    folder = training.open_folder(prepared.settings)
    finished = training.train(prepared, folder)
    row = finished.history[-1]
    assert row["update"] == 2
    assert row["nonfinite"] == 0
    assert row["loss"] is not None
    assert progress._line(row)
    assert Settings.from_dict(settings.read_config(str(folder / "config.json"))).env == base.env


def test_curves_are_written_by_step_and_tag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Any] = []

    class Writer:
        def write(self, step: int, values: dict[str, float]) -> None:
            written.append((step, values))

        def close(self) -> None:
            written.append("closed")

    def open_writer(kind: str, folder: Path, **options: Any) -> Writer:
        written.append((kind, folder, options))
        return Writer()

    monkeypatch.setattr("jaxtrade.tracking.open_writer", open_writer)
    run = RunSettings(tracker="mlflow")
    row = {
        "update": 3, "updates": 9, "steps": 100.0, "episodes": 4.0, "return_mean": 0.5,
        "equity_ratio": 1.25, "trades_per_step": 0.2, "kl": None, "return_by_seed": [0.5, None],
    }  # fmt: skip
    with curves.curves(Settings(run=run), tmp_path / "x") as draw:
        draw(row)
    opened, (step, values), closed = written
    assert opened == ("mlflow", tmp_path, {"run_name": "x"})
    assert step == 3 * 1024 * 64
    assert values["train/return_mean"] == values["train/return_by_seed/0"] == 0.5
    assert not {"train/kl", "train/update", "train/return_by_seed/1"} & set(values)
    episode = {name: value for name, value in values.items() if name.startswith("episode/")}
    assert episode == {
        "episode/reward": 0.5,
        "episode/length": 25,
        "episode/return_on_investment": 0.25,
        "episode/trades": 5,
    }
    assert closed == "closed"


def test_a_missing_tracker_is_named_before_anything_is_written(
    prices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    words = ["ppo", "--frame", str(prices), "--tracker", "wandb", "--out", str(tmp_path / "o")]
    with pytest.raises(ImportError, match=r"wandb'; install it with: pip install 'jaxtrade\[wandb"):
        cli.train(words)
    assert not (tmp_path / "o").exists()


def test_the_algorithm_of_a_file_is_not_taken_for_another(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(Settings.from_dict({}, "grpo").to_dict()))
    with pytest.raises(ValueError, match="holds settings of 'grpo', was asked for 'ppo'"):
        cli.train(["ppo", "--config", str(path)])
    with pytest.raises(ValueError, match=r"algorithm: unknown name 'gprpo'; did you mean 'grpo'"):
        Settings.from_dict({"algorithm": "gprpo"})
    with pytest.raises(ValueError, match="unknown environment 'OneStep'"):
        cli.train(["ppo", "--env", "OneStep"])


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
    found = flags.parse_flags(words, Settings(), "x", "x").to_dict()
    default = Settings().to_dict()
    for name, value in expected.items():
        assert found[section][name] == value
    if "--fill-at" in words:
        assert found["environment"]["rules"]["fill_at"] == "next_open"
    elif "--leverage" not in words and "--time-frames" not in words:
        del found[section][next(iter(expected))], default[section][next(iter(expected))]
        assert found == default


def test_a_function_can_be_named() -> None:
    base = flags.parse_flags(["--features", f"{__name__}:closes"], Settings(), "x", "x")
    assert base.environment.features is closes
    again = Settings.from_dict(json.loads(json.dumps(base.to_dict())))
    assert again.environment.features is closes
    with pytest.raises(ValueError, match=r"features: cannot import 'no.such:thing'"):
        flags.parse_flags(["--features", "no.such:thing"], Settings(), "x", "x")


def closes(bars: Any) -> Any:
    return bars[["close"]].rename(columns={"close": "feature_close"})


def test_a_file_gives_the_defaults_and_flags_win(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("[learner]\nnum_envs = 32\ngamma = 0.5\n[environment]\nleverage = 2\n")
    base = Settings.from_dict(settings.read_config(str(path)))
    found = flags.parse_flags(["--gamma", "0.6"], base, "x", "x")
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
        ({"tracker": "tensorbord"}, "tracker: must be one of"),
        ({"initial_policy": "none.zip"}, "none.zip"),
    ],
)
def test_wrong_run_settings_are_refused_before_anything_is_written(
    prices: Path, tmp_path: Path, run_settings: dict[str, Any], message: str
) -> None:
    given = Settings(run=RunSettings(frame=str(prices), out=str(tmp_path / "o"), **run_settings))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        training.prepare(given)
    assert not (tmp_path / "o").exists()


def test_a_missing_file_names_the_samples() -> None:
    with pytest.raises(FileNotFoundError, match="bundled samples are eurusd_1h"):
        ranges.read_frame("nothing.csv")


def test_no_window_of_the_held_out_range_reaches_into_training(prices: Path) -> None:
    config = SequentialTradingEnvConfig(time_frames=("1hour", "4hour"), window_sizes=(4, 3))
    given = Settings(run=RunSettings(frame=str(prices)), environment=config)
    ranges = training.prepare(given).ranges
    gap = int(ranges.test.first) - int(ranges.train.last)
    assert gap == 12  # three bars of four hours
    assert ranges.validation is None


def test_usage_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.train([]) == 2
    assert "jaxtrade train {ppo,a2c,grpo,dqn,sac}" in capsys.readouterr().err
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


def test_a_misspelt_algorithm_is_named() -> None:
    with pytest.raises(ValueError, match="algorithm: unknown name 'grp'; did you mean 'grpo'"):
        cli.train(["grp"])


def test_an_evaluation_in_sample_says_so(
    run: Path, prices: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = str(run / "bundle.zip")
    assert cli.evaluate([bundle, "--frame", str(prices), "--random-policies", "2"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    ranges = json.loads((run / "metrics.json").read_text())["ranges"]
    end = ranges["train"]["end"]
    assert "In-sample:" in shown
    assert f"--start {end}" in shown
    words = [bundle, "--frame", str(prices), "--start", ranges["test"]["first_decision"]]
    assert cli.evaluate([*words, "--random-policies", "2"]) == 0
    assert "In-sample" not in capsys.readouterr().out

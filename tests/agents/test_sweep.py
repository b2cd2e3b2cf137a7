"""Many runs in one program: each is what it would be alone, and one table tells which was best."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import cli, evaluate, members, ppo, sweep_cli, sweep_run, sweep_table, training
from agents import learner as learning
from agents.settings import Settings
from agents.sweep import Between, Sweep, known, parse, settings_of
from agents.sweep_memory import Memory, compile_for
from agents.sweep_programs import (
    Population,
    judge,
    lanes_of,
    numbers_of,
    prepare,
    program,
    sizes,
    train,
)
from tests.agents.conftest import SMALL, Small, hours

TINY = [
    "--num-envs", "8", "--rollout-steps", "8", "--minibatches", "2", "--epochs", "1",
    "--hidden-sizes", "8", "--updates-per-chunk", "2", "--total-steps", "256", "--seeds", "2",
    "--window-sizes", "4", "--leverage", "2", "--max-steps", "12", "--random-policies", "2",
]  # fmt: skip
RANDOM = ["learning_rate=log(1e-3,1e-1)", "transaction_fee=uniform(0.0005,0.003)", "leverage=2,3"]
SAMPLES = 3


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prices") / "hours.csv"
    hours(400).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def base(prices: Path) -> Settings:
    words = [*TINY, "--frame", str(prices), "--split", "0.6", "0.8"]
    found: Settings = cli.read_settings(words, "ppo", "sweep", "")
    return found


@pytest.fixture(scope="module")
def population(base: Settings) -> Population:
    return prepare(base, Sweep(settings=parse(RANDOM), samples=SAMPLES))


@pytest.fixture(scope="module")
def whole(population: Population) -> Any:
    """All members in one program: the program and what it left."""
    compiled, size, memory = compile_for(population)
    assert size == SAMPLES
    assert memory is not None
    built = program(population, range(size))
    return built, train(built, compiled, lambda row: None), memory


@pytest.fixture(scope="module")
def traces() -> Iterator[list[str]]:
    """Grows whenever Python runs through an update, which is when a program is traced."""
    seen: list[str] = []
    update = ppo.PPO.update

    def counting(self: ppo.PPO, *arguments: Any) -> Any:
        seen.append("update")
        return update(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ppo.PPO, "update", counting)
        yield seen


@pytest.fixture(scope="module")
def pair(population: Population, traces: list[str]) -> Any:
    """A program of two members, compiled."""
    return compile_for(population, 2)


def near(a: Any, b: Any) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4), a, b)


# Side by side -----------------------------------------------------------------------------------


def test_a_member_is_the_run_alone(population: Population, whole: Any) -> None:
    built, trained, _ = whole
    number, seeds = 1, len(population.seeds)
    alone = training.prepare(population.settings[number])
    state = training.start_state(alone)
    config = alone.settings.learner.traced()
    for _ in range(2):
        state, metrics = learning.train_chunk(
            state, config, alone.params, learner=alone.learner, length=2
        )
    variables = evaluate.variables_of(trained.state)
    mine = lanes_of(variables, number, seeds)
    near(mine["params"], state.params)
    lanes = slice(number * seeds, (number + 1) * seeds)
    np.testing.assert_array_equal(trained.state.lanes.state.bar[lanes], state.lanes.state.bar)
    last = trained.history[number][-1]
    np.testing.assert_allclose(last["cost_per_step"] * 2 * 128, metrics["cost"].sum(), rtol=1e-3)
    # The same decisions, bar by bar, and the same money.
    market = alone.ranges.validation
    judged = judge(population, built, variables, market)[lanes]
    choose = evaluate.NetworkPolicy(alone.learner.network)
    expected = evaluate.run(alone.env, choose, evaluate.variables_of(state), market=market)
    for one, other in zip(judged, expected, strict=True):
        np.testing.assert_array_equal(one["action"], other["action"])
        np.testing.assert_allclose(one["equity"], other["equity"], rtol=1e-12)


def test_every_member_trades_on_its_own_terms(population: Population, whole: Any) -> None:
    built, trained, _ = whole
    assert {"fee", "leverage"} == set(population.differing)
    fees = [settings.environment.transaction_fee for settings in population.settings]
    assert len(set(fees)) == SAMPLES
    for number, rows in enumerate(trained.history):
        ratio = rows[-1]["cost_per_step"] / rows[-1]["turnover_per_step"]
        np.testing.assert_allclose(ratio, fees[number], rtol=1e-3)
    variables = evaluate.variables_of(trained.state)
    # One policy for all: what differs are the terms.
    variables = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), variables)
    records = judge(population, built, variables, population.prepared.ranges.train)
    for lane, record in enumerate(records):
        number = lane // 2
        traded = record["traded_notional"] > 0
        assert traded.any()
        ratio = record["fee"][traded] / record["traded_notional"][traded]
        np.testing.assert_allclose(ratio, fees[number], rtol=1e-9)
        assert record["leverage"] == population.settings[number].environment.leverage


def test_programs_give_what_one_gives_and_are_compiled_once(
    population: Population, whole: Any, pair: Any, traces: list[str]
) -> None:
    compiled, size, _ = pair
    before = len(traces)
    assert before > 0
    assert size == 2
    trained = [
        train(program(population, numbers_of(index, size, SAMPLES)), compiled, lambda row: None)
        for index in range(2)
    ]
    assert len(traces) == before
    variables = evaluate.variables_of(whole[1].state)
    for number in range(SAMPLES):
        own = evaluate.variables_of(trained[number // 2].state)
        near(lanes_of(own, number % 2, 2)["params"], lanes_of(variables, number, 2)["params"])
    # The place that the last program fills up repeats its last member.
    rows = trained[1].history
    timed = ("steps_per_second", "seconds")
    assert [{k: v for k, v in row.items() if k not in timed} for row in rows[0]] == [
        {k: v for k, v in row.items() if k not in timed} for row in rows[1]
    ]


def test_a_member_that_fails_leaves_the_others_alone(base: Settings, pair: Any) -> None:
    settings = {"learning_rate": (1e-3, 1e38), "transaction_fee": (0, 1e-3), "leverage": (2, 3)}
    many = prepare(base, Sweep(settings=settings))
    trained = train(program(many, [0, 7]), pair[0], lambda row: None)
    assert trained.failed.tolist() == [False, False, True, True]
    metrics = [dict.fromkeys(sweep_table.METRICS.values(), value) for value in (0.5, np.nan)]
    history = [{"return_by_seed": [1.0, 2.0]}, {"return_by_seed": [None, 3.0]}]
    good, bad = (
        sweep_table.row_of(number, {"gamma": 0.9}, 4, history, metrics, np.array(failed))
        for number, failed in ((0, [False, True]), (1, [True, True]))
    )
    assert good["training_return"] == 1.0
    assert good["validation_return"] == 0.5
    assert bad["validation_return"] is None
    assert bad["failed_seeds"] == 2


def test_memory_is_told_per_member(whole: Any, pair: Any) -> None:
    three, two = whole[2], pair[2]
    assert two.shared == pytest.approx(three.shared, rel=0.05)
    assert three.total > two.total
    np.testing.assert_allclose(three.total - two.total, three.member, rtol=0.3)
    assert str(Memory(total=13_000_000, shared=1_000_000, members=4)) == (
        "3.0 MB per member, 13.0 MB for 4"
    )


def test_fewer_members_where_the_memory_is_small(
    population: Population, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    needed = {3: 900, 2: 600, 1: 300}

    def pretend(built: Any) -> Any:
        count = len(built.numbers)
        return count, Memory(needed[count], 0, count)

    monkeypatch.setattr("agents.sweep_memory._compile", pretend)
    monkeypatch.setattr("agents.sweep_memory.device_memory", lambda: 1000)
    assert compile_for(population, None, told.append)[:2] == (1, 1)
    assert "compiling for fewer" in told[0]
    assert compile_for(population, 3)[:2] == (3, 3)  # asked for is asked for


def test_numbers_must_fit_the_members(small: Small) -> None:
    rates = SMALL.replace(learning_rate=np.full(3, 1e-3)).traced()
    with pytest.raises(ValueError, match="learning_rate: must be one number for a state without"):
        learning.start(small.learner, jax.random.key(0), rates, small.params)
    keys = jax.vmap(jax.random.key)(jnp.arange(2))
    with pytest.raises(ValueError, match="must have one row for each of 2 members, was 3"):
        learning.start(small.learner, keys, rates, small.params)
    several = small.params.replace(fee=jnp.zeros(2), reward_weights=jnp.ones((2, 1)))
    assert set(members.own(several)) == {"fee", "reward_weights"}
    assert members.own(members.select(several, 1)) == {}
    assert members.axes(several).market is None


# What is swept ----------------------------------------------------------------------------------


def test_a_grid_is_every_combination_in_order() -> None:
    sweep = Sweep(settings=parse(["learning-rate=1e-4,1e-3", "transaction_fee=0,0.0004"]))
    assert [tuple(one.values()) for one in sweep.members()] == [
        (1e-4, 0), (1e-4, 4e-4), (1e-3, 0), (1e-3, 4e-4),
    ]  # fmt: skip
    assert json.loads(json.dumps(sweep.to_dict()))["settings"]["learning_rate"] == [1e-4, 1e-3]


def test_random_members_depend_on_the_seed_alone() -> None:
    settings = parse(["gamma=uniform(0.5,0.9)", "learning_rate=log(1e-6,1e-2)", "leverage=2,5"])
    sweep = Sweep(settings=settings, samples=400, seed=3)
    found = sweep.members()
    assert found == sweep.members()
    assert found != dataclasses.replace(sweep, seed=4).members()
    columns = {name: np.array([one[name] for one in found]) for name in settings}
    assert 0.5 <= columns["gamma"].min() < 0.51 < 0.89 < columns["gamma"].max() < 0.9
    assert set(columns["leverage"]) == {2, 5}
    # Evenly in the logarithm: half of them below the middle exponent.
    assert 0.4 < (columns["learning_rate"] < 1e-4).mean() < 0.6


def test_programs_are_as_even_as_they_can_be() -> None:
    assert sizes(18, 16) == (2, 9)
    assert sizes(5, 2) == (3, 2)
    assert [numbers_of(index, 2, 5) for index in range(3)] == [[0, 1], [2, 3], [4, 4]]


@pytest.mark.parametrize(
    ("texts", "samples", "message"),
    [
        ([], None, "names no setting"),
        (["gamma"], None, "expected name=value,value"),
        (["gamma=0.9,x"], None, "gamma: expected numbers with commas between, was '0.9,x'"),
        (["gamma=0.9,0.9"], None, "gamma: needs values that differ, was '0.9,0.9'"),
        (["gamma=0.9", "gamma=0.8"], None, "names 'gamma' twice"),
        (["gamma=uniform(0.9,0.99)"], None, r"add\s+--random N"),
        (["gamma=uniform(0.9,0.8)"], 2, r"uniform\(0.9,0.8\) needs low < high"),
        (["gamma=log(0,0.8)"], 2, "needs 0 < low < high"),
        (["gamma=uniform(1)"], 2, r"expected uniform\(low,high\)"),
        (["gamma=unform(0,1)"], 2, "did you mean 'uniform'"),
        (["gamma=0.9"], 0, "random: must be a whole number >= 1, was 0"),
    ],
)
def test_a_wrong_sweep_is_refused(texts: list[str], samples: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sweep(settings=parse(texts), samples=samples)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gama": (0.9,)}, "unknown setting 'gama'; did you mean 'gamma'"),
        (
            {"num_envs": (8, 16)},
            "num_envs: shapes the program .* one sweep for each value of --num",
        ),
        ({"total_steps": (8, 16)}, "total_steps: shapes the program or the data"),
        ({"gamma": (0.9, 1.5)}, r"gamma: must be in \[0, 1\] and finite, was 1.5"),
        ({"transaction_fee": (0, 1)}, r"transaction_fee: must be in \[0, 1\); got 1"),
        ({"max_steps": (5, 5.5)}, "max_steps: must be None or a whole number"),
        ({"leverage": (1, 2)}, "leverage: 1 is spot and more is futures"),
    ],
)
def test_members_that_cannot_be_are_refused(
    base: Settings, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(base, Sweep(settings=settings))


def test_a_sweep_needs_a_range_to_choose_by(base: Settings) -> None:
    halves = dataclasses.replace(base, run=dataclasses.replace(base.run, split=("0.5",)))
    with pytest.raises(ValueError, match="split: a sweep needs a validation range"):
        prepare(halves, Sweep(settings={"gamma": (0.9, 0.99)}))


def test_a_sweep_runs_on_one_device(base: Settings) -> None:
    several = dataclasses.replace(base, run=dataclasses.replace(base.run, devices=4))
    with pytest.raises(ValueError, match="devices: the members of a sweep share one, was 4"):
        prepare(several, Sweep(settings={"gamma": (0.9, 0.99)}))


def test_an_outcome_table_is_of_one_environment(base: Settings) -> None:
    values = {"learner": {"outcomes": "table"}, "environment": {"window_sizes": 4}}
    grouped = Settings.from_dict(values, "grpo")
    grouped = dataclasses.replace(grouped, run=base.run)
    with pytest.raises(ValueError, match=r'outcomes: a "table" holds .* swept over fee'):
        prepare(grouped, Sweep(settings={"transaction_fee": (0, 1e-3)}))


def test_what_may_be_swept_has_the_names_of_the_flags() -> None:
    grouped = known(Settings.from_dict({}, "grpo"))
    assert grouped["env_rollout_steps"] == ("environment", "rollout_steps")
    assert "rollout_steps" not in grouped
    weighted = Settings.from_dict({"environment": {"reward": {"log_return": 1, "drawdown": 0.1}}})
    found = settings_of(weighted, {"reward.drawdown": 0.5, "max_steps": 7.0}).environment
    assert found.reward == {"log_return": 1, "drawdown": 0.5}
    assert isinstance(found.max_steps, int)


# The table --------------------------------------------------------------------------------------


def test_the_best_on_validation_comes_first() -> None:
    def row(member: int, value: float | None, **more: Any) -> dict[str, Any]:
        found = {"member": member, "updates": 8, "failed_seeds": 0, "validation_return": value}
        return {**found, "test_return": -member, **more}

    rows = [row(0, 0.1), row(1, None), row(2, 0.3), row(3, 0.9, updates=4)]
    rows.append(row(4, 0.8, failed_seeds=1))
    assert [one["member"] for one in sweep_table.ranked(rows, "return")] == [2, 0, 1, 4, 3]


def test_the_best_of_many_is_lucky() -> None:
    assert sweep_table.luck(1, 365) == 0
    assert sweep_table.luck(100, 365) == pytest.approx(2.53, abs=0.005)
    assert sweep_table.luck(100, 365 / 4) == pytest.approx(2 * sweep_table.luck(100, 365))


def test_ctrl_c_keeps_what_is_done(
    population: Population, pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_run, "compile_for", lambda *_: pair)

    def interrupt(row: dict[str, Any]) -> None:
        if row["program"] == 1:
            os.kill(os.getpid(), signal.SIGINT)

    found = sweep_run.run(population, tmp_path, report=interrupt)
    assert found.interrupted
    assert found.comparison is None  # the held-out range is for the end
    assert [row["updates"] for row in found.rows] == [4, 4, 2]
    assert found.rows[-1]["member"] == 2
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 4


@pytest.mark.slow
def test_the_command_writes_one_table(
    prices: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    population: Population,
    whole: Any,
) -> None:
    words = ["ppo", *TINY, "--frame", str(prices), "--split", "0.6", "0.8", "--out", str(tmp_path)]
    words += ["--name", "s", "--random", str(SAMPLES), "--members-per-program", "2"]
    words += [word for text in RANDOM for word in ("--sweep", text)]
    assert sweep_cli.sweep(words) == 0
    said = capsys.readouterr()
    assert "2 program(s) of 2 member(s), 2 seed(s) each; memory:" in said.err
    assert "without any skill" in said.out
    assert "always flat" in said.out
    folder = tmp_path / "s"
    rows = list(csv.DictReader((folder / "table.csv").open()))
    values = [float(row["validation_return"]) for row in rows]
    assert sorted(int(row["member"]) for row in rows) == [0, 1, 2]
    assert values == sorted(values, reverse=True)
    for row in rows:
        swept = population.values[int(row["member"])]
        assert {name: float(row[name]) for name in swept} == swept
    # Only the chosen one has seen the held-out range.
    assert [row["test_return"] != "" for row in rows] == [True, False, False]
    told = json.loads((folder / "sweep.json").read_text())
    assert [one["member"] for one in told["members"]] == [int(row["member"]) for row in rows]
    assert told["members"][0]["by_seed"]["test_return"] == told["held_out"]["PPO"]["total_return"]
    assert told["memory"]["members"] == 2
    built, trained, _ = whole
    records = judge(
        population,
        built,
        evaluate.variables_of(trained.state),
        population.prepared.ranges.validation,
    )
    for one in told["members"]:
        lanes = records[one["member"] * 2 : one["member"] * 2 + 2]
        growth = [record["equity"][-1] / record["equity"][0] - 1 for record in lanes]
        np.testing.assert_allclose(one["by_seed"]["validation_return"], growth, rtol=1e-6)
        np.testing.assert_allclose(one["validation_return"], np.median(growth), rtol=1e-6)
    best = Settings.from_dict(json.loads((folder / "best.json").read_text()))
    assert best.learner == population.settings[int(rows[0]["member"])].learner
    progress = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
    assert [row["member"] for row in progress] == [0, 0, 1, 1, 2, 2]
    with pytest.raises(ValueError, match="already holds a run or a sweep"):
        sweep_cli.sweep(words)


def test_usage_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep_cli.sweep([]) == 2
    assert "--members-per-program" in capsys.readouterr().err
    assert sweep_cli.sweep(["--help"]) == 0
    assert "own environment" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        sweep_cli.sweep(["ppo", "--help"])
    assert "--transaction-fee" in capsys.readouterr().out
    with pytest.raises(ValueError, match="did you mean 'grpo'"):
        sweep_cli.sweep(["grp", "--sweep", "gamma=0.9,0.99"])
    with pytest.raises(ValueError, match="members_per_program: must be a whole number >= 1, was 0"):
        sweep_cli.sweep(["ppo", "--sweep", "gamma=0.9,0.99", "--members-per-program", "0"])
    with pytest.raises(ValueError, match="rank_by: must be one of"):
        sweep_cli.sweep(["ppo", "--sweep", "gamma=0.9,0.99", "--rank-by", "luck"])


def test_a_range_is_told_as_it_was_given() -> None:
    assert str(Between(1e-5, 0.01, log=True)) == "log(1e-05,0.01)"

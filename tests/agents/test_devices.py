"""Several devices, and several processes, learn what one device learns.

The work runs in processes of its own (`device_work`): the number of devices is fixed at the start.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from agents import devices, dqn, ppo, processes
from agents.settings import RunSettings
from tests.agents.conftest import SMALL, hours

PROJECT = Path(__file__).resolve().parents[2]
CONFIG: Any = SMALL  # 16 environments in 2 minibatches
PPO = ppo.PPO(env=None, network=None)  # type: ignore[arg-type]  # it is only passed on
WORK = """
import sys
from agents import processes
words = processes.take(sys.argv[1:])
from tests.agents import device_work
device_work.main(*words)
"""


def begin(task: str, argument: Path, count: int, *words: str) -> subprocess.Popen[str]:
    """A process with ``count`` devices at work; the words let it join others."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}",
    }
    return subprocess.Popen(
        [sys.executable, "-c", WORK, task, str(argument), *words],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def found(*workers: subprocess.Popen[str]) -> list[Any]:
    """What they found, once they are all done."""
    try:
        said = [worker.communicate(timeout=600) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    for worker, (_, errors) in zip(workers, said, strict=True):
        assert worker.returncode == 0, errors[-3000:]
    return [json.loads(output.splitlines()[-1]) for output, _ in said]


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process with eight devices found."""
    return found(begin("compare", tmp_path_factory.mktemp("saved"), 8))[0]


def assert_same_run(compared: Mapping[str, Any]) -> None:
    # A sum in the place of a mean makes the gradient 8 times as large; Adam would hide it.
    assert compared["gradient_size"] > 1e-3
    assert compared["gradient"] < 1e-6
    assert compared["params"] < 1e-5
    assert compared["metrics"] < 1e-5
    # Bars, actions, episodes and steps: the lanes met the same draws.
    assert compared["integers"]


def test_eight_devices_learn_what_one_learns(eight: dict[str, Any]) -> None:
    assert_same_run(eight["ppo"])


@pytest.mark.slow
@pytest.mark.parametrize("task", ["groups", "minibatches", "segments"])
def test_groups_minibatches_and_stretches_are_shared_out_too(task: str, tmp_path: Path) -> None:
    assert_same_run(found(begin(task, tmp_path, 8))[0])


def test_a_state_stays_on_its_devices_between_chunks(eight: dict[str, Any]) -> None:
    layout = eight["layout"]
    assert layout["compiled_again"] == 0
    assert layout["lanes"]
    assert layout["same_layout"]
    assert layout["agree"]
    assert layout["steps"] == layout["expected_steps"]


def test_devices_tell_each_other_sums_only_and_agree_on_the_rest(eight: dict[str, Any]) -> None:
    assert eight["layout"]["collectives"] == ["all-reduce"]
    assert eight["layout"]["copies_equal"]


def test_a_saved_state_goes_on_with_any_number_of_devices(eight: dict[str, Any]) -> None:
    assert eight["restored"] == {"8": True, "4": True, "1": True}


def test_what_cannot_be_shared_out_is_refused() -> None:
    stored = dqn.DQN(env=None, network=None)  # type: ignore[arg-type]  # it is only passed on
    with pytest.raises(ValueError, match="DQN learns on one device, was 1; use ppo"):
        devices.Sharded.of(stored, dqn.DQNConfig(), devices.mesh_of(1))
    with pytest.raises(ValueError, match=r"at most the \d+ of cpu, was 1000"):
        devices.spread(PPO, CONFIG, 1000)
    with pytest.raises(ValueError, match="num_envs: must be a multiple of the 3 devices, was 16"):
        devices.share(CONFIG, 3)
    message = "minibatches: must divide the 1 envs .* was 2; each of 16 devices runs 1 of num_envs"
    with pytest.raises(ValueError, match=message):
        devices.share(CONFIG, 16)


def test_alone_nothing_is_averaged() -> None:
    tree = {"a": np.ones(2)}
    assert devices.mean_over(None, tree) is tree
    assert devices.sum_over(None, tree) is tree
    assert devices.merged(None, tree) is tree
    assert devices.first_lane(None, 4) == 0
    assert not processes.any_says(False)
    assert processes.is_first()


def test_a_gradient_of_what_is_alike_is_the_mean() -> None:
    def loss(x: Any, y: Any) -> Any:
        return (devices.averaged("env", x) * y).sum()

    ys = np.array([1.0, 2.0, 6.0], np.float32)
    gradient = jax.vmap(jax.grad(loss), (None, 0), axis_name="env")(np.float32(5), ys)
    np.testing.assert_allclose(gradient, [3, 3, 3])


def test_one_device_is_the_learner_itself() -> None:
    assert devices.spread(PPO, CONFIG, 1) is PPO
    assert devices.spread(PPO, CONFIG, None) is PPO  # a CPU takes one unless asked
    assert devices.placed(PPO, CONFIG) is CONFIG
    assert devices.count_of(PPO) == 1


def test_as_many_accelerators_as_share_evenly_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "device_count", lambda: 7)
    assert devices._most(PPO, CONFIG) == 4  # 16 lanes in 2 minibatches
    assert devices._most(PPO, CONFIG.replace(num_envs=14, minibatches=1)) == 7
    assert devices._most(PPO, CONFIG.replace(num_envs=13, minibatches=1)) == 1


@pytest.mark.parametrize(
    ("environment", "several"),
    [
        ({}, False),
        ({"SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"SLURM_STEP_NUM_TASKS": "4"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"TPU_WORKER_HOSTNAMES": "a"}, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
    ],
)
def test_processes_started_together_are_recognised(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], several: bool
) -> None:
    joined = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *given, **_: joined.append(given))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert processes.take(["ppo", "--seeds", "2"]) == ["ppo", "--seeds", "2"]
    assert bool(joined) == several
    given = ["--coordinator", "10.0.0.1:1234", "--processes=2", "--process-index", "1"]
    assert processes.take([*given, "ppo"]) == ["ppo"]
    assert joined[-1] == ("10.0.0.1:1234", 2, 1)


def test_wrong_numbers_of_devices_and_processes_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def alone(*_: Any, **__: Any) -> None:
        raise ValueError("coordinator_address should be defined.")

    with pytest.raises(ValueError, match=r"devices: must be a whole number >= 1 or None, was 0"):
        RunSettings(devices=0).check()
    with pytest.raises(ValueError, match=r"process-index: must be in \[0, 2\) .* was 2"):
        processes.join("127.0.0.1:1", 2, 2)
    monkeypatch.setattr(jax.distributed, "initialize", alone)
    with pytest.raises(ValueError, match=r"--coordinator HOST:PORT, --processes"):
        processes.join(None, 2, 0)


# Whole runs -------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def written(folder: Path, name: str, updates: int, *, resume: bool = False, **run: Any) -> Path:
    """Settings of a run of two seeds in one minibatch, which any number of devices may share."""
    prices = folder / "hours.csv"
    if not prices.exists():
        hours(400).to_csv(prices, index=False)
    learner = {"num_envs": 16, "rollout_steps": 8, "minibatches": 1, "epochs": 2}
    given = {
        "resume": resume,
        "run": {
            "frame": str(prices),
            "out": str(folder),
            "name": name,
            "seeds": 2,
            "total_steps": updates * 16 * 8,
            "updates_per_chunk": 2,
            "checkpoint_chunks": 1,
            **run,
        },
        "environment": {"window_sizes": 4, "leverage": 2, "transaction_fee": 0.0005},
        "learner": {**learner, "hidden_sizes": [8]},
    }
    path = folder / f"{name}-{updates}.json"
    path.write_text(json.dumps(given))
    return path


def learnt(folder: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(folder / name / "params.npz") as found:
        return dict(found)


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_and_another_goes_on(tmp_path: Path) -> None:
    one = found(begin("run", written(tmp_path, "one", 4, devices=4), 4))
    together = ("--coordinator", f"127.0.0.1:{free_port()}", "--processes", "2")
    settings = written(tmp_path, "two", 4)
    two = found(
        *(begin("run", settings, 2, *together, "--process-index", str(i)) for i in range(2))
    )
    assert one == [{"first": True, "devices": 4, "update": 4, "rows": 2}]
    assert two == [{**one[0], "first": index == 0} for index in range(2)]
    earlier, seen = learnt(tmp_path, "one"), learnt(tmp_path, "two")
    for name, values in earlier.items():
        np.testing.assert_allclose(seen[name], values, atol=1e-6, err_msg=name)
    # The first process alone writes.
    assert len((tmp_path / "two" / "progress.jsonl").read_text().splitlines()) == 2

    on = [
        begin("run", written(tmp_path, "two", 6, devices=8, resume=True), 8),
        begin("run", written(tmp_path, "one", 6, devices=1, resume=True), 1),
    ]
    assert [run["update"] for run in found(*on)] == [6, 6]
    wanted, seen = learnt(tmp_path, "one"), learnt(tmp_path, "two")
    for name, values in wanted.items():
        np.testing.assert_allclose(seen[name], values, atol=1e-5, err_msg=name)
    assert any(np.abs(values - earlier[name]).max() > 1e-4 for name, values in wanted.items())

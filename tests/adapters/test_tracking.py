"""`open_writer`: what arrives in the files of each tool, and what it says when it cannot."""

from __future__ import annotations

import struct

import pytest

from jaxtrade.tracking import REWARD, open_writer


def events(folder):
    """(step, tag, value) of every scalar in the event files of a folder."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            # Length and its checksum, the record, its checksum.
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            found += [(event.step, one.tag, one.simple_value) for one in event.summary.value]
            at += 12 + length + 4
    return found


def test_tensorboard_files_hold_what_was_written(tmp_path):
    pytest.importorskip(
        "tensorboardX", reason="needs the extra 'tracking': pip install 'jaxtrade[tracking]'"
    )
    writer = open_writer("tensorboard", tmp_path / "runs" / "one")
    writer.write(100, {REWARD: 0.5, "loss/value": 2})
    writer.write(250, {REWARD: -1.5})
    writer.close()
    assert events(tmp_path / "runs" / "one") == [
        (100, REWARD, 0.5),
        (100, "loss/value", 2.0),
        (250, REWARD, -1.5),
    ]


def test_wandb_keeps_a_run_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs the extra 'wandb': pip install 'jaxtrade[wandb]'")
    monkeypatch.setenv("WANDB_SILENT", "true")
    writer = open_writer("wandb", tmp_path, mode="offline", project="tests")
    writer.write(100, {REWARD: 0.5})
    writer.write(50, {"loss": 1.0})
    writer.close()
    (run,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    content = run.read_bytes()
    assert REWARD.encode() in content
    assert b"env_steps" in content


def test_mlflow_keeps_a_run_in_its_database(tmp_path):
    mlflow = pytest.importorskip(
        "mlflow", reason="needs the extra 'mlflow': pip install 'jaxtrade[mlflow]'"
    )
    writer = open_writer("mlflow", tmp_path, run_name="one")
    writer.write(100, {REWARD: 0.5, "loss": 1.0})
    writer.write(200, {REWARD: 1.5})
    writer.close()
    client = mlflow.tracking.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("jaxtrade")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("one", "FINISHED")
    history = client.get_metric_history(run.info.run_id, REWARD)
    assert [(one.step, one.value) for one in history] == [(100, 0.5), (200, 1.5)]
    open_writer("mlflow", tmp_path).close()
    assert len(client.search_runs([experiment.experiment_id])) == 2


@pytest.mark.parametrize(
    ("kind", "package", "extra"),
    [
        ("tensorboard", "tensorboardX", "tracking"),
        ("wandb", "wandb", "wandb"),
        ("mlflow", "mlflow", "mlflow"),
    ],
)
def test_a_missing_package_is_named(kind, package, extra, hidden, tmp_path):
    hidden(package)
    message = (
        rf"^{kind}: needs the package '{package}'; "
        rf"install it with: pip install 'jaxtrade\[{extra}\]'\.$"
    )
    with pytest.raises(ImportError, match=message):
        open_writer(kind, tmp_path)


def test_an_unknown_kind_is_told_its_nearest_name(tmp_path):
    message = (
        r"^tracking: unknown kind 'tensorbord'; did you mean 'tensorboard'\? "
        r"Known: tensorboard, wandb, mlflow\.$"
    )
    with pytest.raises(ValueError, match=message):
        open_writer("tensorbord", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_writers_module_imports_none_of_their_packages(tmp_path):
    import subprocess
    import sys

    code = (
        "import sys, jaxtrade.tracking; "
        "print([n for n in ('jax', 'tensorboardX', 'wandb', 'mlflow') if n in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"

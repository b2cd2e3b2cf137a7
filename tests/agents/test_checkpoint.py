"""A run can be stopped and continued bit for bit, and only as the same run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from agents.checkpoint import Checkpoints, manifest_of
from tests.agents.conftest import SMALL, Small, config
from tests.agents.test_ppo import equal


@pytest.fixture(scope="module")
def manifest(small: Small) -> dict[str, Any]:
    train, _ = small.env.market.split("2024-01-16")
    return manifest_of(small.env, SMALL, train, [0])


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def saved(small: Small, manifest: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder with the state after two updates, and the state after four."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    state, _ = small.chunk(small.start())
    with Checkpoints(folder, manifest) as checkpoints:
        checkpoints.save(2, state)
        # The buffers are given away at once; the save has its own copy.
        state, _ = small.chunk(state)
    return folder, state


def test_a_resumed_run_is_bit_identical(
    small: Small, manifest: dict[str, Any], saved: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, uninterrupted = saved
    monkeypatch.chdir(folder.parent)  # a relative folder works
    with Checkpoints("checkpoints", manifest) as checkpoints:
        assert checkpoints.latest == 2
        state = checkpoints.restore(small.start(seed=5))
    assert jax.numpy.issubdtype(state.key.dtype, jax.dtypes.prng_key)
    resumed, _ = small.chunk(state)
    assert equal(resumed, uninterrupted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learner": {"gamma": 0.5}}, "learner.gamma = 0.99, this run has 0.5"),
        ({"environment": {"leverage": 4}}, "environment.leverage = 3, this run has 4"),
        ({"feature_hash": "other"}, "feature_hash .* same time frames, windows and features"),
        ({"action_hash": "other"}, "action_hash .* same action levels"),
        ({"data": {"sha256": "other"}}, "data.sha256 .* same price file"),
    ],
)
def test_another_run_is_refused_and_nothing_is_touched(
    manifest: dict[str, Any], saved: Any, change: dict[str, Any], message: str
) -> None:
    folder, _ = saved
    before = contents(folder)
    other = {
        name: {**value, **change[name]}
        if isinstance(value, dict) and name in change
        else change.get(name, value)
        for name, value in manifest.items()
    }
    with pytest.raises(ValueError, match=message):
        Checkpoints(folder, other)
    assert contents(folder) == before
    # Versions and commit are information, not identity.
    Checkpoints(folder, {**manifest, "versions": {}, "commit": "x"}).close()


def test_a_damaged_checkpoint_is_one_clear_error(
    small: Small, manifest: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoints"
    state, _ = small.chunk(small.start())
    with Checkpoints(folder, manifest) as checkpoints:
        checkpoints.save(2, state)
    for path in (folder / "2").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    before = contents(folder)
    with (
        Checkpoints(folder, manifest) as checkpoints,
        pytest.raises(ValueError, match=r"2: damaged checkpoint .*; delete"),
    ):
        checkpoints.restore(small.start())
    assert contents(folder) == before


def test_a_damaged_manifest_is_one_clear_error(manifest: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"learner": ')
    with pytest.raises(ValueError, match="damaged manifest"):
        Checkpoints(tmp_path, manifest)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_an_empty_folder_has_nothing_to_resume(
    small: Small, manifest: dict[str, Any], tmp_path: Path
) -> None:
    with (
        Checkpoints(tmp_path / "new", manifest) as checkpoints,
        pytest.raises(ValueError, match="holds no checkpoint"),
    ):
        checkpoints.restore(small.start())


def test_the_data_fingerprint_is_of_the_training_range(small: Small) -> None:
    train, test = small.env.market.split("2024-01-16")
    ohlcv = np.array(train.ohlcv)
    ohlcv[int(train.last) + 1 :] *= 2
    same = dataclasses.replace(train, ohlcv=ohlcv)
    kept = manifest_of(small.env, SMALL, train, [0])["data"]
    assert manifest_of(small.env, SMALL, same, [0])["data"] == kept
    assert manifest_of(small.env, SMALL, test, [0])["data"] != kept
    assert config().to_dict()["leverage"] == 3

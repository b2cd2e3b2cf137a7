"""A policy survives its file, runs without the learners, and refuses another environment."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jaxtrade import SequentialTradingEnv, SequentialTradingEnvConfig
from jaxtrade.bundle import Bundle


def frame(rows: int = 120) -> pd.DataFrame:
    close = 100 + np.sin(np.arange(rows) / 5)
    return pd.DataFrame(
        {
            "timestamp": pd.date_range("2024-01-01", periods=rows, freq="h"),
            "open": close,
            "high": close,
            "low": close,
            "close": close,
            "volume": 1.0,
        }
    )


def environment(**changes: Any) -> SequentialTradingEnv:
    fields: dict[str, Any] = {"window_sizes": 4, "leverage": 2, "action_levels": (-1.0, 0.0, 1.0)}
    return SequentialTradingEnv(frame(), SequentialTradingEnvConfig(**{**fields, **changes}))


WEIGHTS = np.linspace(-1, 1, (4 * 5 + 6) * 3).reshape(4 * 5 + 6, 3).astype(np.float32)


def policy(observation: dict[str, jax.Array]) -> jax.Array:
    batch = observation["account_state"].shape[0]
    flat = [observation[key].reshape(batch, -1) for key in sorted(observation)]
    return jnp.concatenate(flat, axis=-1) @ WEIGHTS


@pytest.fixture(scope="module")
def env() -> SequentialTradingEnv:
    return environment()


@pytest.fixture(scope="module")
def bundle(env: SequentialTradingEnv) -> Bundle:
    return Bundle.of(
        env,
        policy,
        {"layer/kernel": WEIGHTS},
        network={"hidden_sizes": (3,)},
        metrics={"total_return": 0.1},
        details={"seed": np.int64(3)},
    )


@pytest.fixture
def path(bundle: Bundle, tmp_path: Path) -> Path:
    return bundle.save(tmp_path / "deep" / "policy.zip")


def batch(size: int) -> dict[str, jax.Array]:
    window, account = jax.random.split(jax.random.key(size))
    return {
        "market_data_1Hour": jax.random.normal(window, (size, 4, 5)),
        "account_state": jax.random.normal(account, (size, 6)),
    }


def test_a_round_trip_keeps_everything(bundle: Bundle, path: Path) -> None:
    loaded = Bundle.load(path)
    for size in (1, 7):  # any batch size, also under jit
        expected = policy(batch(size))
        np.testing.assert_allclose(loaded.policy(batch(size)), expected, rtol=1e-5, atol=1e-5)
        traced = jax.jit(loaded.policy)(batch(size))
        np.testing.assert_allclose(traced, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(loaded.parameters["layer/kernel"], WEIGHTS)
    assert loaded.metrics == {"total_return": 0.1}
    assert loaded.details == {"seed": 3}
    assert loaded.network == {"hidden_sizes": [3]}
    assert loaded.num_actions == 3
    assert loaded.feature_hash == bundle.feature_hash
    assert loaded.versions["jax"] == jax.__version__
    rebuilt = SequentialTradingEnvConfig.from_dict(dict(loaded.config))
    assert rebuilt.leverage == 2
    assert list(path.parent.iterdir()) == [path]  # no temporary file is left


def test_decisions_are_the_highest_logits_or_the_number_itself(bundle: Bundle) -> None:
    expected = np.asarray(policy(batch(7))).argmax(-1)
    assert len(set(expected.tolist())) > 1
    action = bundle.decide(batch(7))
    assert action.dtype == np.int32
    np.testing.assert_array_equal(action, expected)
    env = environment(action="continuous", action_levels=None)
    number = Bundle.of(env, lambda seen: jnp.tanh(policy(seen)[:, 0]), {})
    assert number.continuous
    assert number.num_actions == 0
    assert number.actions == {"kind": "continuous", "spot": False}
    found = number.decide(batch(7))
    np.testing.assert_allclose(found, np.tanh(policy(batch(7))[:, 0]), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="kind was levels, here it is continuous"):
        bundle.check(env)


def test_the_artifact_is_for_every_platform(bundle: Bundle) -> None:
    assert set(bundle._exported.platforms) == {"cpu", "cuda", "tpu"}


def test_the_policy_runs_under_x64(bundle: Bundle) -> None:
    with jax.enable_x64(True):
        assert bundle.policy(batch(2)).dtype == np.float32


def test_it_runs_without_the_learners_and_their_libraries(path: Path) -> None:
    code = f"""
import sys
import numpy as np
from jaxtrade.bundle import Bundle
bundle = Bundle.load({str(path)!r})
window, account = np.ones((2, 4, 5)), np.ones((2, 6))
logits = bundle.policy({{"market_data_1Hour": window, "account_state": account}})
assert logits.shape == (2, 3)
loaded = {{name.partition(".")[0] for name in sys.modules}}
assert not loaded & {{"agents", "flax", "optax", "orbax", "gymnax"}}, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_in_the_file_is_pickled(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == ["manifest.json", "parameters.npz", "policy.bin"]
        assert json.loads(archive.read("manifest.json"))["format_version"] == 1


def test_its_own_environment_is_accepted(bundle: Bundle, env: SequentialTradingEnv) -> None:
    bundle.check(env)
    bundle.check(environment(transaction_fee=0.001, max_steps=7))  # costs may differ


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window_sizes": 5}, r"another feature set: window_sizes was \[4\], here it is \[5\]"),
        ({"features": "ohlcv"}, "another feature set: feature_columns was"),
        ({"time_frames": "2hour"}, r"another feature set: time_frames was \['1Hour'\]"),
        (
            {"action_levels": (-1.0, 0.5, 1.0)},
            r"another action table: levels was \[-1.0, 0.0, 1.0\]",
        ),
        ({"action_levels": (0.0, -1.0, 1.0)}, "another action table"),
    ],
)
def test_another_environment_is_refused(
    bundle: Bundle, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        bundle.check(environment(**changes))


def test_the_same_levels_mean_something_else_in_spot(bundle: Bundle) -> None:
    with pytest.warns(UserWarning, match="negative levels"):
        spot = environment(leverage=1)
    with pytest.raises(ValueError, match="spot was False, here it is True"):
        bundle.check(spot)


@pytest.mark.parametrize(
    "wrong",
    [
        {"account_state": np.zeros((2, 6))},
        {"market_data_1Hour": np.zeros((2, 5, 5)), "account_state": np.zeros((2, 6))},
        {"market_data_2Hour": np.zeros((2, 4, 5)), "account_state": np.zeros((2, 6))},
    ],
)
def test_an_observation_of_another_shape_is_refused(bundle: Bundle, wrong: Any) -> None:
    with pytest.raises(ValueError, match="observation: expected a batch of"):
        bundle.policy(wrong)


def rewrite(path: Path, **members: bytes) -> None:
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**kept, **{k.replace("_", "."): v for k, v in members.items()}}.items():
            archive.writestr(name, data)


def test_damaged_files_are_one_clear_error_and_stay_as_they_are(path: Path) -> None:
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for damaged in (b"", b"not a bundle", whole[: len(whole) // 2], bytes(flipped)):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"not a readable bundle .*; copy it again"):
            Bundle.load(path)
        assert path.read_bytes() == damaged
    for members in ({"policy_bin": b"x"}, {"manifest_json": b"{}"}, {"manifest_json": b"["}):
        path.write_bytes(whole)
        rewrite(path, **members)
        with pytest.raises(ValueError, match="not a readable bundle"):
            Bundle.load(path)


def test_a_newer_format_says_so(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    rewrite(path, manifest_json=json.dumps({**manifest, "format_version": 99}).encode())
    with pytest.raises(ValueError, match="format version 99 needs a newer jaxtrade"):
        Bundle.load(path)


def test_an_unreadable_artifact_names_the_version_it_was_made_with(bundle: Bundle) -> None:
    import dataclasses

    broken = dataclasses.replace(bundle, artifact=b"1234" * 10, versions={"jax": "9.9"})
    with pytest.raises(ValueError, match=r"exported by jax 9\.9"):
        broken.policy(batch(1))


def test_a_missing_file_is_not_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Bundle.load(tmp_path / "none.zip")


def test_a_failed_save_keeps_the_old_file(path: Path, bundle: Bundle, monkeypatch: Any) -> None:
    before = path.read_bytes()

    def fail(*arguments: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        bundle.save(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]

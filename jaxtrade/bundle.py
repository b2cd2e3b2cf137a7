"""A trained policy in one file: `Bundle`.

The policy itself is a `jax.export` artifact (observation in, logits or a continuous action out), so
it runs without the code of the network that was trained. Beside it lie the parameters for further
training and what is needed to refuse a wrong use: features, action table, configuration.

The file is a zip archive of ``manifest.json``, ``policy.bin`` and ``parameters.npz``; nothing in it
is unpickled, and every member is checked against its SHA-256 before it is used.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

from jaxtrade.descriptions import describe_features, difference, hash_of, plain, versions
from jaxtrade.files import atomic_write

Array = jax.Array

FORMAT, FORMAT_VERSION = "jaxtrade-bundle", 1
PLATFORMS = ("cpu", "cuda", "tpu")
# What reading a damaged archive may raise; RuntimeError is what zipfile says of odd flags.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    OSError,
    RuntimeError,
)
_MANIFEST, _POLICY, _PARAMETERS = "manifest.json", "policy.bin", "parameters.npz"


def export_policy(
    policy: Callable[[dict[str, Array]], Array], shapes: Mapping[str, tuple[int, ...]]
) -> bytes:
    """Serialise a policy for cpu, cuda and tpu with a free batch size.

    Args:
      policy: {key: float32 [B, ...]} -> float32 [B, A] or [B]; its parameters become part of it.
      shapes: key -> shape of one observation, without the batch axis.
    """
    (batch,) = export.symbolic_shape("batch")
    observation = {
        key: jax.ShapeDtypeStruct((batch, *shape), np.float32) for key, shape in shapes.items()
    }
    with jax.enable_x64(False):
        exported = export.export(jax.jit(policy), platforms=PLATFORMS)(observation)
    return bytes(exported.serialize())


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Bundle:
    """A trained policy and everything needed to use it rightly.

    Attributes:
      artifact: the exported policy (`export_policy`).
      parameters: "a/b/c" -> array, for further training.
      observation_shapes: key -> shape of one observation.
      environment, config: name of the environment and its configuration in JSON form.
      features, feature_hash: what the policy sees (`describe_features`).
      actions, action_hash: what its outputs mean (`TradingEnv.action_description`).
      network: settings of the network. metrics: of its evaluation. details: anything about the
        training that is worth keeping; ``feature_lookback`` if the features declare theirs.
      versions: packages it was made with.

    Example::

        bundle = Bundle.load("runs/demo/bundle.zip")
        bundle.check(env)                                   # made for this environment?
        actions = bundle.decide(observation_batch)          # [B]
    """

    artifact: bytes = dataclasses.field(repr=False)
    parameters: Mapping[str, np.ndarray] = dataclasses.field(repr=False)
    observation_shapes: Mapping[str, tuple[int, ...]]
    environment: str
    config: Mapping[str, Any]
    features: Mapping[str, Any]
    feature_hash: str
    actions: Mapping[str, Any]
    action_hash: str
    network: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=versions)

    @classmethod
    def of(
        cls,
        env: Any,
        policy: Callable[[dict[str, Array]], Array],
        parameters: Mapping[str, np.ndarray],
        *,
        network: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> Bundle:
        """Bundle a policy for an environment.

        Args:
          env: the trading environment it was trained on.
          policy: observation batch of mode "dict" -> logits [B, A], or the continuous action [B].
        """
        shapes = {**env.window_shapes, "account_state": (6,)}
        actions = env.action_description()
        lookback = env.market.spec.feature_lookback
        declared = {} if lookback is None else {"feature_lookback": lookback}
        return cls(
            artifact=export_policy(policy, shapes),
            parameters=dict(parameters),
            observation_shapes=shapes,
            environment=env.name,
            config=env.config.to_dict(),
            features=describe_features(env.market.spec),
            feature_hash=env.market.spec.feature_hash,
            actions=actions,
            action_hash=hash_of(actions),
            network=dict(network or {}),
            metrics=dict(metrics or {}),
            details={**declared, **(details or {})},
        )

    @property
    def continuous(self) -> bool:
        """Whether the policy's output is the action itself."""
        return self.actions["kind"] == "continuous"

    @property
    def num_actions(self) -> int:
        """Number of actions the policy chooses between; 0 where it gives a number."""
        return len(self.actions.get("levels", self.actions.get("rows", ())))

    @functools.cached_property
    def _exported(self) -> export.Exported:
        try:
            return export.deserialize(bytearray(self.artifact))
        # The deserialiser has no error of its own for bad input.
        except (ValueError, struct.error, IndexError, AssertionError, RuntimeError) as error:
            raise ValueError(
                f"bundle: its policy, exported by jax {self.versions.get('jax')}, cannot be read "
                f"by jax {jax.__version__} ({error}); install that version or train it again"
            ) from error

    def policy(self, observation: Mapping[str, Any]) -> Array:
        """Action logits, float32 [B, A], or the continuous action, [B]; may be called in `jit`.

        Args:
          observation: the environment's mode "dict" with a batch axis, float32 [B, ...] per key.

        Raises:
          ValueError: keys or shapes differ from those it was trained on.
        """
        given = {key: np.shape(part)[1:] for key, part in observation.items()}
        expected = {key: tuple(shape) for key, shape in self.observation_shapes.items()}
        if given != expected:
            raise ValueError(
                f"observation: expected a batch of {expected}, was {given}; build it with the "
                "bundle's time frames and window sizes"
            )
        parts = {key: jax.numpy.asarray(observation[key], np.float32) for key in expected}
        return self._exported.call(parts)

    def decide(self, observation: Mapping[str, Any]) -> Array:
        """The deterministic action [B] at observations as of `policy`: int32, or float32."""
        output = self.policy(observation)
        return output if self.continuous else output.argmax(axis=-1).astype(np.int32)

    def check(self, env: Any) -> None:
        """Refuse an environment whose observations or actions mean something else.

        Raises:
          ValueError: naming the first field that differs, and the remedy.
        """
        features, actions = describe_features(env.market.spec), env.action_description()
        same_features = env.market.spec.feature_hash == self.feature_hash
        for what, same, ours, theirs in (
            ("feature set", same_features, self.features, features),
            ("action table", hash_of(actions) == self.action_hash, self.actions, actions),
        ):
            if not same:
                raise ValueError(
                    f"bundle: made for another {what}: {difference(ours, theirs)}; build the "
                    "environment from bundle.config, or train a policy for this one"
                )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the bundle to one file; an existing file is replaced whole or not at all."""
        path = Path(path)
        stream = io.BytesIO()
        np.savez(
            stream, allow_pickle=False, **{k: np.asarray(v) for k, v in self.parameters.items()}
        )
        members = {_POLICY: self.artifact, _PARAMETERS: stream.getvalue()}
        manifest = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            **{name: plain(getattr(self, name)) for name in _JSON_FIELDS},
            "members": {name: hashlib.sha256(data).hexdigest() for name, data in members.items()},
        }
        text = json.dumps(manifest, indent=1, sort_keys=True).encode()
        with (
            atomic_write(path) as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for name, data in {_MANIFEST: text, **members}.items():
                # A fixed date: the same policy gives the same bytes.
                archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Bundle:
        """Read a bundle; the policy itself is decoded on first use.

        Raises:
          FileNotFoundError: there is no such file.
          ValueError: the file is damaged, not a bundle, or of a newer format.
        """
        path = Path(path)
        try:
            with zipfile.ZipFile(path) as archive:
                manifest = json.loads(archive.read(_MANIFEST))
                version = manifest["format_version"]
                if manifest["format"] != FORMAT:
                    raise ValueError(f"its format is {manifest['format']!r}")
                if version > FORMAT_VERSION:
                    raise ValueError(f"its format version {version} needs a newer jaxtrade")
                data = {name: archive.read(name) for name in (_POLICY, _PARAMETERS)}
            for name, content in data.items():
                if hashlib.sha256(content).hexdigest() != manifest["members"][name]:
                    raise ValueError(f"{name} does not have the recorded SHA-256")
            fields = {name: manifest[name] for name in _JSON_FIELDS}
            with np.load(io.BytesIO(data[_PARAMETERS]), allow_pickle=False) as arrays:
                parameters = dict(arrays)
        except FileNotFoundError:
            raise
        except _DAMAGE as error:
            reason = f"has no {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(
                f"{path}: not a readable bundle ({reason}); copy it again, or write a new one with "
                "`jaxtrade train`"
            ) from error
        shapes = {key: tuple(shape) for key, shape in fields.pop("observation_shapes").items()}
        return cls(
            artifact=data[_POLICY], parameters=parameters, observation_shapes=shapes, **fields
        )


_JSON_FIELDS = tuple(field.name for field in dataclasses.fields(Bundle) if field.repr)

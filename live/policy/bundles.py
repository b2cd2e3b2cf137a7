"""Trained weights: the policy of a bundle, and the observer that feeds it."""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxtrade.bundle import Bundle
from jaxtrade.descriptions import describe_features
from jaxtrade.market import features as market_features
from jaxtrade.timeframe import TimeFrame
from live.observation import DEFAULT_LOOKBACK, Observer
from live.policy.base import Info, Observation, PolicyTarget


class BundlePolicy:
    """The deterministic policy of a bundle.

    Weights that are not finite give NaN as the action, which nobody trades on.

    Args:
      bundle: read by `jaxtrade.bundle`. target: what it must have been made for; None = unchecked.
      digest: of its file.

    Raises:
      ValueError: it was made for other observations or actions.
    """

    def __init__(
        self, bundle: Bundle, target: PolicyTarget | None = None, digest: str = ""
    ) -> None:
        if target is not None:
            bundle.check(target)
        self.bundle, self.digest = bundle, digest
        self.name = f"bundle of {bundle.environment}"
        self._run = jax.jit(bundle.policy)

    @classmethod
    def load(cls, path: str | os.PathLike[str], target: PolicyTarget | None = None) -> BundlePolicy:
        """Read a bundle from its file; see `Bundle.load` for what is refused."""
        bundle = Bundle.load(path)
        return cls(bundle, target, hashlib.sha256(Path(path).read_bytes()).hexdigest())

    def __call__(self, observation: Observation, info: Info) -> int | float:
        """The likeliest action, the first of equals."""
        del info
        batch = {key: np.asarray(part, np.float32)[None] for key, part in observation.items()}
        with jax.enable_x64(False):
            output = np.asarray(self._run(batch))[0]
        if not np.isfinite(output).all():
            return math.nan
        return float(output) if self.bundle.continuous else int(output.argmax())


def observer_for(
    bundle: Bundle,
    features: Any = None,
    *,
    leverage: float | None = None,
    maintenance_rate: float | None = None,
    allocation: float | None = None,
    **flags: bool,
) -> Observer:
    """The observer that feeds a bundle what it was trained on.

    Args:
      features: the feature functions where the bundle only names them; None = it names none.
      leverage, maintenance_rate: of the account; None = as in training.
      allocation: what of the equity the symbol may use.
      flags: ``sparse``, ``replay``, ``base_features`` of `Observer`.

    Raises:
      ValueError: the features are named but not given, or they are not those of the bundle.
    """
    named, config = bundle.features, bundle.config
    ours = float(config["leverage"] if leverage is None else leverage)
    if maintenance_rate is None:
        threshold = config.get("margin_call_threshold")
        maintenance_rate = (
            config["maintenance_margin_rate"] if threshold is None else threshold / ours
        )
    given = market_features.resolve(
        list(named["feature_names"]) if features is None else features, len(named["time_frames"])
    )
    observer = Observer.create(
        time_frames=[TimeFrame.parse(name) for name in named["time_frames"]],
        window_sizes=list(named["window_sizes"]),
        execute_on=named["execute_on"],
        features=list(given),
        leverage=ours,
        maintenance_rate=float(maintenance_rate),
        lookback=int(bundle.details.get("feature_lookback", DEFAULT_LOOKBACK)),
        allocation=allocation,
        **flags,
    )
    if observer.spec.feature_hash != bundle.feature_hash:
        found = describe_features(observer.spec)
        field = next((name for name in named if named[name] != found.get(name)), None)
        told = (
            "the recorded hash differs"
            if field is None
            else (f"{field} was {named[field]}, here it is {found.get(field)}")
        )
        raise ValueError(
            f"bundle: made for another feature set: {told}; give the functions of the training."
        )
    return observer

"""Who decides: a bundle of trained weights, a rule, or a user's own function, behind one call.

A policy gets one observation (mode "dict", no batch axis) and the info of the step, and answers an
action: an index, or a number where the actions are continuous. Whatever else it answers, NaN
included, the planner takes for a hold.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import jax
import numpy as np

from jaxtrade.bundle import Bundle, describe_features
from jaxtrade.core.brackets import CLOSE, HOLD, ActionTable
from jaxtrade.hints import did_you_mean
from jaxtrade.market import features as market_features
from jaxtrade.market.market import MarketSpec
from jaxtrade.timeframe import TimeFrame
from live.observation import DEFAULT_LOOKBACK, Observer

Observation = Mapping[str, np.ndarray]
Info = Mapping[str, Any]

BASELINES = (
    "always_flat",
    "always_long",
    "buy_and_hold",
    "mean_reversion",
    "moving_average_cross",
    "random",
)


class Policy(Protocol):
    """What decides.

    Attributes:
      name: for logs and the journal. digest: SHA-256 hex of what it is made of, "" = unknown.
    """

    name: str
    digest: str

    def __call__(self, observation: Observation, info: Info) -> Any:
        """The action for one observation."""


@dataclasses.dataclass(frozen=True, eq=False)
class PolicyTarget:
    """What a policy must fit: the observation it gets and what its actions mean.

    It answers what bundles and baselines ask of an environment.

    Attributes:
      spec: of the observation. levels: of each action, or table: rows of a bracket policy.
      spot: leverage 1.
    """

    spec: MarketSpec
    spot: bool
    levels: tuple[float, ...] | None = None
    table: ActionTable | None = None

    continuous = False

    def __post_init__(self) -> None:
        if (self.levels is None) == (self.table is None):
            raise ValueError("levels, table: give exactly one of them.")

    @property
    def market(self) -> Any:
        """What holds the specification."""
        return SimpleNamespace(spec=self.spec)

    @property
    def num_actions(self) -> int:
        """Number of actions."""
        return len(self.levels if self.levels is not None else self.table or ())

    def action_description(self) -> dict[str, Any]:
        """What the actions mean, as the environments say it."""
        if self.table is None:
            levels = np.asarray(self.levels, np.float64).tolist()
            return {"kind": "levels", "levels": levels, "spot": self.spot}
        table = self.table
        rows = zip(table.sides, table.stops, table.targets, strict=True)
        return {
            "kind": "brackets",
            "rows": [list(row) for row in rows],
            "hash": table.hash,
            "spot": self.spot,
        }

    def action_for(self, side: int) -> int | None:
        """The action for the largest position on ``side`` (+1, -1) or none (0); None = no such."""
        if self.table is None:
            return self._level_for(side)
        table = self.table
        if side == 0:
            without = [a for a in (CLOSE, HOLD) if a in table.sides]
            return table.sides.index(without[0]) if without else None
        rows = [k for k, one in enumerate(table.sides) if one == side]
        return max(rows, key=lambda k: (abs(table.stops[k]), abs(table.targets[k])), default=None)

    def _level_for(self, side: int) -> int | None:
        levels = list(self.levels or ())
        if side == 0:
            return levels.index(0) if 0 in levels else None
        best = max(range(len(levels)), key=lambda k: side * levels[k])
        exists = side * levels[best] > 0 and not (side < 0 and self.spot)
        return best if exists else None


# Bundles ----------------------------------------------------------------------------------------


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


# Rules and functions ----------------------------------------------------------------------------


class BaselinePolicy:
    """A rule of `jaxtrade.baselines` by its name.

    Args:
      name: one of `BASELINES`. target: what it trades.
      seed: of the rules that draw; a bar's draw depends on nothing else but the bar.
      options: further arguments of the rule.

    Raises:
      ValueError: no rule has this name, or it does not fit the target.
    """

    digest = ""

    def __init__(self, name: str, target: PolicyTarget, *, seed: int = 42, **options: Any) -> None:
        if name not in BASELINES:
            hint = did_you_mean(name, BASELINES) or f"known: {', '.join(BASELINES)}"
            raise ValueError(f"policy: unknown baseline {name!r}; {hint}.")
        from jaxtrade import baselines

        self.name = name
        self._seed = seed
        self._run = jax.jit(getattr(baselines, name)(target, **options))

    def __call__(self, observation: Observation, info: Info) -> int | float:
        """The rule's action; ``info["bar_open_ms"]`` names the bar."""
        draw = np.random.default_rng((self._seed, int(info["bar_open_ms"]))).random()
        batch = {key: np.asarray(part, np.float32)[None] for key, part in observation.items()}
        with jax.enable_x64(False):
            return np.asarray(self._run(batch, np.full(1, draw, np.float32)))[0].item()


class CallablePolicy:
    """A user's function ``(observation, info) -> action``.

    Args:
      function: it, or where it is: ``"module:name"``.

    Raises:
      ValueError: there is no such function.
    """

    digest = ""

    def __init__(self, function: str | Callable[..., Any]) -> None:
        self._function = named_object(function) if isinstance(function, str) else function
        self.name = (
            function if isinstance(function, str) else market_features.name_of(self._function)
        )
        if not callable(self._function):
            raise ValueError(f"policy: {self.name} is not callable.")

    @classmethod
    def made_by(cls, factory: str, target: PolicyTarget) -> CallablePolicy:
        """The policy that ``factory`` (``"module:function"``) makes for a target."""
        policy = cls(named_object(factory)(target))
        policy.name = factory
        return policy

    def __call__(self, observation: Observation, info: Info) -> Any:
        """What the function answers; an array without axes as its number."""
        answer = self._function(observation, info)
        if isinstance(answer, np.generic | np.ndarray | jax.Array) and np.ndim(answer) == 0:
            return np.asarray(answer).item()
        return answer


def named_object(name: str) -> Any:
    """The object at ``"module:name"``.

    Raises:
      ValueError: the name is malformed, the module cannot be found, or it has no such name.
    """
    module, _, path = name.partition(":")
    if not module or not path:
        raise ValueError(f"policy: expected 'module:name'; got {name!r}.")
    try:
        return functools.reduce(getattr, path.split("."), importlib.import_module(module))
    except ModuleNotFoundError as error:
        raise ValueError(f"policy: {name!r}: {error}.") from error
    except AttributeError as error:
        known: Sequence[str] = dir(importlib.import_module(module))
        hint = did_you_mean(path, known)
        raise ValueError(f"policy: {name!r}: {error}; {hint}".rstrip("; ") + ".") from error


# Compiled, without memory and without waiting: these need no thread and may be tried out.
QUICK = (BundlePolicy, BaselinePolicy)

"""What a sweep varies: settings by name, the values they take, and the members these make.

Members learn side by side in one compiled program, so that they may differ in numbers only: those
of the learner, and those of the environment outside its market. Shapes are the same for all.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agents.settings import RunSettings, Settings
from jaxtrade.hints import did_you_mean

# Fields of an environment's configuration that are numbers in its parameters.
_NUMBERS = (
    "initial_cash",
    "transaction_fee",
    "half_spread",
    "slippage",
    "leverage",
    "maintenance_margin_rate",
    "margin_call_threshold",
    "bankrupt_threshold",
    "ruin_reward",
    "max_steps",
    "rollout_steps",
)
_WHOLE = ("max_steps", "rollout_steps")
_DISTRIBUTIONS = ("uniform", "log")
# Of the validation range.
RANKS = ("return", "sharpe")


@dataclasses.dataclass(frozen=True)
class Between:
    """Draws between two numbers, evenly or, with ``log``, evenly in the logarithm.

    Raises:
      ValueError: the numbers are no range.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        finite = math.isfinite(self.low) and math.isfinite(self.high)
        if not finite or self.low >= self.high or (self.log and self.low <= 0):
            needed = "0 < low < high" if self.log else "low < high"
            raise ValueError(f"sweep: {self} needs {needed}")

    def __str__(self) -> str:
        return f"{_DISTRIBUTIONS[self.log]}({self.low:g},{self.high:g})"

    def draw(self, generator: np.random.Generator) -> float:
        """One number."""
        if self.log:
            return float(np.exp(generator.uniform(np.log(self.low), np.log(self.high))))
        return float(generator.uniform(self.low, self.high))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """Settings to try, and how.

    Attributes:
      settings: name -> its values, or (random search only) the range to draw from.
      samples: members drawn at random; None = every combination of the values, a grid.
      seed: of the draws. rank_by: what the best member has most of on the validation range.

    Raises:
      ValueError: nothing to try, a range in a grid, or values given twice.
    """

    settings: Mapping[str, tuple[float, ...] | Between]
    samples: int | None = None
    seed: int = 0
    rank_by: str = "return"

    def __post_init__(self) -> None:
        if not self.settings:
            raise ValueError("sweep: names no setting; give for example learning_rate=1e-4,1e-3")
        if self.samples is not None and self.samples < 1:
            raise ValueError(f"random: must be a whole number >= 1, was {self.samples}")
        if self.rank_by not in RANKS:
            raise ValueError(f"rank_by: must be one of {RANKS}, was {self.rank_by!r}")
        for name, values in self.settings.items():
            if isinstance(values, Between):
                if self.samples is None:
                    raise ValueError(
                        f"{name}: {values} is drawn from, which needs a number of members; add "
                        "--random N, or give values"
                    )
            elif not values or len(set(values)) < len(values):
                shown = ",".join(f"{value:g}" for value in values)
                raise ValueError(f"{name}: needs values that differ, was {shown!r}")

    def members(self) -> list[dict[str, float]]:
        """Name -> value of every member, always in the same order; the last name varies first."""
        if self.samples is None:
            grid = [values for values in self.settings.values() if not isinstance(values, Between)]
            return [dict(zip(self.settings, row, strict=True)) for row in itertools.product(*grid)]
        generator = np.random.default_rng(self.seed)
        return [
            {name: _draw(values, generator) for name, values in self.settings.items()}
            for _ in range(self.samples)
        ]

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        settings = {
            name: str(values) if isinstance(values, Between) else list(values)
            for name, values in self.settings.items()
        }
        return {**dataclasses.asdict(self), "settings": settings}


def _draw(values: tuple[float, ...] | Between, generator: np.random.Generator) -> float:
    if isinstance(values, Between):
        return values.draw(generator)
    return values[int(generator.integers(len(values)))]


def parse(texts: Sequence[str]) -> dict[str, tuple[float, ...] | Between]:
    """Settings of a `Sweep` from texts "name=1,2,3", "name=uniform(a,b)" or "name=log(a,b)".

    Raises:
      ValueError: a text is none of these, or names a setting for the second time.
    """
    settings: dict[str, tuple[float, ...] | Between] = {}
    for text in texts:
        name, _, given = text.partition("=")
        name = name.strip().replace("-", "_")
        if not name or not given:
            raise ValueError(
                f"sweep: expected name=value,value or name=log(low,high), was {text!r}"
            )
        if name in settings:
            raise ValueError(f"sweep: names {name!r} twice; give all its values at once")
        settings[name] = _values(name, given.strip())
    return settings


def _values(name: str, given: str) -> tuple[float, ...] | Between:
    drawn = re.fullmatch(r"(\w+)\((.*)\)", given)
    numbers = _numbers(name, drawn[2] if drawn else given)
    if drawn is None:
        return numbers
    if drawn[1] not in _DISTRIBUTIONS:
        hint = did_you_mean(drawn[1], _DISTRIBUTIONS) or f"known: {', '.join(_DISTRIBUTIONS)}"
        raise ValueError(f"{name}: unknown distribution {drawn[1]!r}; {hint}")
    if len(numbers) != 2:
        raise ValueError(f"{name}: expected {drawn[1]}(low,high), was {given!r}")
    return Between(*numbers, log=drawn[1] == "log")


def _numbers(name: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise ValueError(f"{name}: expected numbers with commas between, was {text!r}") from None


# Members ----------------------------------------------------------------------------------------


def known(base: Settings) -> dict[str, tuple[str, str]]:
    """What may be swept: name -> (part of the settings, field or part of the reward).

    Where environment and learner have a field of the same name, the environment's starts with
    ``env_``, as in the flags. ``reward.NAME`` is the weight of one part of a weighted reward.
    """
    shared = set(base.learner.__dataclass_fields__)
    names = {
        field.name: ("learner", field.name)
        for field in dataclasses.fields(base.learner)
        if "range" in field.metadata
    }
    for field in _NUMBERS:
        if field in base.environment.__dataclass_fields__:
            names[f"env_{field}" if field in shared else field] = ("environment", field)
    if isinstance(base.environment.reward, Mapping):
        names |= {
            f"reward.{part}": ("reward", part)
            for part in base.environment.reward
            if isinstance(part, str)
        }
    return names


def settings_of(base: Settings, values: Mapping[str, float]) -> Settings:
    """The settings of one member.

    Raises:
      ValueError: a name that cannot be swept, or a value out of range.
    """
    names = known(base)
    parts: dict[str, dict[str, Any]] = {"learner": {}, "environment": {}, "reward": {}}
    for name, value in values.items():
        if name not in names:
            raise ValueError(_cannot(name, base, names))
        part, field = names[name]
        parts[part][field] = int(value) if field in _WHOLE and value == int(value) else value
    if parts["reward"]:
        # The order of the parts stays: it is that of their weights in the parameters.
        given: Any = base.environment.reward
        parts["environment"]["reward"] = {**given, **parts["reward"]}
    learner = dataclasses.replace(base.learner, **parts["learner"])
    learner.check()
    environment = dataclasses.replace(base.environment, **parts["environment"])
    return dataclasses.replace(base, learner=learner, environment=environment)


def _cannot(name: str, base: Settings, names: Mapping[str, Any]) -> str:
    """Why a name cannot be swept, and what can."""
    owners = (base.learner, base.environment, RunSettings)
    field = name.removeprefix("env_")
    if any(field in owner.__dataclass_fields__ for owner in owners):
        hint = did_you_mean(name, names)
        flag = "--" + name.replace("_", "-")
        return (
            f"{name}: shapes the program or the data that all members share, and cannot be swept; "
            f"run one sweep for each value of {flag}" + (f" ({hint})" if hint else "")
        )
    hint = did_you_mean(name, names) or f"known: {', '.join(names)}"
    return f"sweep: unknown setting {name!r}; {hint}"

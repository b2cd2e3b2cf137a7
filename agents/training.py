"""A training run on disk: chunks, progress, checkpoints, and at the end evaluation and bundle.

A run folder holds ``config.json`` (resolved settings), ``checkpoints/``, ``progress.jsonl``,
``metrics.json``, ``bundle.zip`` and ``report.html``.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from agents import algorithms, devices, imitation, outcomes, policies, processes, summary
from agents import learner as learning
from agents.checkpoint import Checkpoints, interruptible, manifest_of, write_json
from agents.curves import curves, require
from agents.networks import Normalizer
from agents.ranges import Ranges, read_frame, split
from agents.settings import RunSettings, Settings
from jaxtrade.bundle import Bundle
from jaxtrade.envs.registry import find

CONFIG, PROGRESS, CHECKPOINTS = "config.json", "progress.jsonl", "checkpoints"


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Everything a run needs before its first update.

    Attributes:
      env: as configured. params: what the learner takes: the environment's over the training range,
        with what it has prepared of them.
      initial: variables of the policy to begin with (`policies.from_bundle`), or None.
    """

    settings: Settings
    env: Any
    ranges: Ranges
    learner: Any
    params: Any
    normalizer: Normalizer
    initial: Any = None

    @property
    def seeds(self) -> list[int]:
        """Seeds of the runs side by side."""
        run = self.settings.run
        return list(range(run.seed, run.seed + run.seeds))


@dataclasses.dataclass(frozen=True)
class Finished:
    """What training left: the state of all seeds and how it ended."""

    state: Any
    interrupted: bool
    history: list[dict[str, Any]]


def prepare(settings: Settings) -> Prepared:
    """Check the settings, read the prices and build everything up to the first update.

    Raises:
      ValueError, FileNotFoundError: the settings or the prices are wrong; nothing is written.
      ImportError: the package of the tracker is not installed.
    """
    settings.run.check()
    settings.learner.check()
    run = settings.run
    if run.name is None and processes.count() > 1:
        raise ValueError("name: must be given to several processes, which write to one folder")
    require(run.tracker)
    env = find(settings.env).env(read_frame(run.frame), settings.environment)
    learner = algorithms.find(settings.algorithm).learner_class.create(env, settings.learner)
    learner = devices.spread(learner, settings.learner, run.devices)
    ranges = split(env.market, run)
    initial = None if run.initial_policy is None else _initial(env, run.initial_policy)
    return Prepared(
        settings=settings,
        env=env,
        ranges=ranges,
        learner=learner,
        params=devices.placed(learner, outcomes.params_of(learner.env, env.params(ranges.train))),
        normalizer=Normalizer.fit(ranges.train),
        initial=devices.placed(learner, initial),
    )


def _initial(env: Any, path: str) -> Any:
    """Network parameters and normalizer of a bundle made for this kind of environment."""
    bundle = Bundle.load(path)
    bundle.check(env)
    return policies.from_bundle(bundle)[1]


def open_folder(settings: Settings) -> Path:
    """Create the run folder and write the resolved settings.

    Raises:
      ValueError: the folder already holds a run.
    """
    folder = folder_of(settings.run)
    if processes.any_says((folder / CONFIG).exists()):
        raise ValueError(
            f"{folder}: already holds a run; continue it with --resume {folder}, or choose another "
            "--name"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if processes.is_first():
        write_json(folder / CONFIG, found_anywhere(settings).to_dict())
    return folder


def folder_of(run: RunSettings) -> Path:
    """The folder that a run is to write to; it may not exist yet."""
    return Path(run.out) / (run.name or datetime.datetime.now().strftime("%Y%m%d-%H%M%S"))


def found_anywhere(settings: Settings) -> Settings:
    """The same settings with files that are found from any working directory."""
    run = settings.run
    if Path(run.frame).exists():
        run = dataclasses.replace(run, frame=str(Path(run.frame).resolve()))
    if run.initial_policy is not None:
        run = dataclasses.replace(run, initial_policy=str(Path(run.initial_policy).resolve()))
    return dataclasses.replace(settings, run=run)


def total_updates(settings: Settings) -> int:
    """Updates of a run: enough for ``total_steps``, whole chunks."""
    run = settings.run
    chunk = run.updates_per_chunk * settings.learner.steps_per_update
    return math.ceil(run.total_steps / chunk) * run.updates_per_chunk


def start_state(prepared: Prepared) -> Any:
    """State before the first update, seeds side by side ([K, ...], see `learning.start`)."""
    keys = jax.vmap(jax.random.key)(np.asarray(prepared.seeds, np.uint32))
    config = devices.placed(prepared.learner, prepared.settings.learner).traced()
    state = learning.start(prepared.learner, keys, config, prepared.params, prepared.normalizer)
    if prepared.initial is None:
        return state
    return imitation.begin_with(state, SimpleNamespace(**prepared.initial))


def _ignore(_: Any) -> None:
    """Nobody reads what one of several processes would say."""


def train(
    prepared: Prepared,
    folder: Path,
    report: Callable[[dict[str, Any]], None] = _ignore,
    announce: Callable[[str], None] = _ignore,
    *,
    resume: bool = False,
) -> Finished:
    """Run or continue training until the last chunk, or until Ctrl-C asks to stop.

    Of several processes, which must all call this, the first reports and writes.

    Args:
      report: called with one row of progress per chunk. announce: called with lines for the user.

    Raises:
      ValueError: a value became infinite or NaN, or the checkpoints do not fit; what was saved
        before stays.
    """
    run, learner = prepared.settings.run, prepared.learner
    config = devices.placed(learner, prepared.settings.learner).traced()
    updates, length = total_updates(prepared.settings), run.updates_per_chunk
    manifest = manifest_of(
        prepared.env, prepared.settings.learner, prepared.ranges.train, prepared.seeds
    )
    processes.require_same("settings, prices or versions", json.dumps(manifest))
    history: list[dict[str, Any]] = []
    first = processes.is_first()
    announce = announce if first else _ignore
    with (
        Checkpoints(folder / CHECKPOINTS, manifest) as checkpoints,
        curves(prepared.settings, folder) if first else nullcontext() as draw,
        interruptible() as asked,
    ):
        state = start_state(prepared)
        if resume:
            state = checkpoints.restore(state)
            announce(f"resuming at update {_done(state)} of {updates}")
        if _done(state) >= updates:
            return Finished(devices.acting(learner, state), False, history)
        if devices.count_of(learner) > 1:
            announce(f"learning on {devices.count_of(learner)} devices")
        announce("compiling (about 10 s; a second run is quicker) ...")
        begin = time.perf_counter()
        lowered = learning.train_chunk.lower(
            state, config, prepared.params, learner=learner, length=length
        )
        compiled = lowered.compile()
        announce(f"compiled in {time.perf_counter() - begin:.1f} s")
        begin = time.perf_counter()
        stop = processes.any_says(bool(asked))
        while _done(state) < updates and not stop:
            clock = time.perf_counter()
            state, metrics = compiled(state, config, prepared.params)
            row = progress_row(jax.device_get(metrics), _done(state), updates, clock, begin)
            _stop_if_nonfinite(row, length, folder)
            history.append(row)
            if draw is not None:
                with (folder / PROGRESS).open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(row) + "\n")
                report(row)
                draw(row)
            stop = processes.any_says(bool(asked))
            if len(history) % run.checkpoint_chunks == 0 or _done(state) >= updates or stop:
                checkpoints.save(_done(state), state)
        interrupted = _done(state) < updates
        if interrupted:
            checkpoints.save(_done(state), state)
        return Finished(devices.acting(learner, state), interrupted, history)


def _done(state: Any) -> int:
    return int(np.max(np.asarray(state.update)))


def progress_row(
    metrics: dict[str, Any], done: int, updates: int, clock: float, begin: float
) -> dict[str, Any]:
    """One line of progress; what no episode has filled yet is None.

    Args:
      metrics: of a chunk, [length, seeds, ...]. done, updates: so far, and of the whole run.
      clock, begin: `time.perf_counter` when the chunk and when the run began.
    """
    now = time.perf_counter()
    pooled = summary.summarize(metrics, axis=(0, 1))
    seeds = summary.summarize(metrics, axis=0)["return_mean"]
    row: dict[str, Any] = {
        "update": done,
        "updates": updates,
        "steps_per_second": round(float(pooled["steps"]) / (now - clock)),
        "seconds": round(now - begin, 2),
        "return_by_seed": [_finite(value) for value in seeds],
    }
    for name, value in pooled.items():
        row[name] = _finite(value) if np.ndim(value) == 0 else [_finite(v) for v in value]
    return row


def _finite(value: Any) -> float | None:
    number = float(value)
    return float(f"{number:.6g}") if math.isfinite(number) else None


def _stop_if_nonfinite(row: dict[str, Any], length: int, folder: Path) -> None:
    if row["nonfinite"] == 0:
        return
    raise ValueError(
        f"training: {row['nonfinite']:.0f} infinite or NaN values in updates "
        f"{row['update'] - length + 1} to {row['update']}; the last good checkpoint in "
        f"{folder / CHECKPOINTS} is kept; lower learning_rate or check the features"
    )

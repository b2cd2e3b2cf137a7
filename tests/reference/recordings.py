"""Read the recorded reference trajectories and say how each one is replayed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxtrade import (
    OneStepTradingEnv,
    OneStepTradingEnvConfig,
    Rules,
    SequentialTradingEnv,
    SequentialTradingEnvConfig,
    SequentialTradingEnvSLTP,
    SequentialTradingEnvSLTPConfig,
    trace,
)
from jaxtrade.core.rules import slack

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "reference"

# Events of a trade that was decided differently on rounding; used to find float32 flips.
DISCRETE = ("event", "exit_kind", "terminated", "truncated")

# Recorded corners that differ by design (README of the recordings).
WITHOUT_TRANSITION = "run_0069"  # max_traj_length 1
WIPED_OUT = {"run_0028": 74}  # the step at which we terminate and the recording trades on


@dataclasses.dataclass(frozen=True)
class Recording:
    """One recorded run: its index entry and its arrays."""

    entry: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def id(self) -> str:
        return self.entry["id"]

    @property
    def config(self) -> dict[str, Any]:
        return self.entry["config"]

    @property
    def multipliers(self) -> np.ndarray:
        """Recorded slippage multiplier per step or episode."""
        name = "ep_slip_mult" if "ep_slip_mult" in self.arrays else "step_slip_mult"
        return self.arrays[name]

    @property
    def start(self) -> int:
        return int(self.arrays["state_bar_time"][0])

    @property
    def draws(self) -> np.ndarray:
        """Uniform draws that the recorded slippage multipliers stand for."""
        slippage, multiplier = self.config["slippage"], self.multipliers
        if slippage == 0:
            return np.full(multiplier.shape, 0.5)
        draw = (multiplier - 1 + slippage) / (2 * slippage)
        return np.where(np.isnan(draw), 0.5, draw)


def entries(env: str) -> list[dict[str, Any]]:
    """Index entries of one recorded environment; empty where the recordings are absent."""
    if not (FOLDER / "index.json").is_file():
        return []
    runs = json.loads((FOLDER / "index.json").read_text())["runs"]
    return [run for run in runs if run["config"]["env"] == env]


def load(entry: dict[str, Any]) -> Recording:
    with np.load(FOLDER / entry["file"], allow_pickle=False) as arrays:
        return Recording(entry, dict(arrays))


def frame(dataset: str) -> pd.DataFrame:
    """A recorded frame; the recordings trade on prices rounded to float32."""
    with np.load(FOLDER / "data" / f"dataset_{dataset}.npz", allow_pickle=False) as columns:
        values = dict(columns)
    for name in ("open", "high", "low", "close"):
        values[name] = values[name].astype(np.float32).astype(np.float64)
    values["timestamp"] = pd.to_datetime(values["timestamp"], utc=True)
    return pd.DataFrame(values)


SHARED_FIELDS = (
    "time_frames",
    "window_sizes",
    "execute_on",
    "transaction_fee",
    "slippage",
    "bankrupt_threshold",
    "leverage",
    "maintenance_margin_rate",
)


def shared_config(recording: Recording, length_field: str) -> dict[str, Any]:
    """Configuration fields that every recorded environment has, in our names."""
    given = recording.config
    length = given["max_traj_length"]
    return {
        **{name: given[name] for name in SHARED_FIELDS},
        "initial_cash": recording.entry["result"]["initial_portfolio_value"],
        length_field: None if length is None else length - 1,
        "rules": Rules.reference(),
        "features": "ohlcv",
        "random_start": False,
    }


def sequential(recording: Recording) -> SequentialTradingEnv:
    config = SequentialTradingEnvConfig(
        **shared_config(recording, "max_steps"),
        action_levels=tuple(recording.config["action_levels"]),
    )
    return SequentialTradingEnv(frame(recording.config["dataset"]), config)


BRACKET_FIELDS = (
    "stoploss_levels",
    "takeprofit_levels",
    "include_hold_action",
    "include_close_action",
    "trade_mode",
    "position_fraction",
    "quantity_per_trade",
)


def sequential_sltp(recording: Recording) -> SequentialTradingEnvSLTP:
    fields = {name: recording.config[name] for name in BRACKET_FIELDS}
    config = SequentialTradingEnvSLTPConfig(
        **shared_config(recording, "max_steps"),
        **fields,
        lock_position_until_sltp=recording.config["lock_position_until_sltp"],
    )
    return SequentialTradingEnvSLTP(frame(recording.config["dataset"]), config)


def one_step(recording: Recording) -> OneStepTradingEnv:
    fields = {name: recording.config[name] for name in BRACKET_FIELDS}
    config = OneStepTradingEnvConfig(**shared_config(recording, "rollout_steps"), **fields)
    return OneStepTradingEnv(frame(recording.config["dataset"]), config)


SIDES = {None: 0, "long": 1, "short": -1, "close": 2}


def assert_same_table(env: Any, recording: Recording) -> None:
    """Our action table is the recorded one."""
    table, recorded_table = env.action_table, recording.config["action_table"]
    assert table.sides == tuple(SIDES[side] for side, _, _ in recorded_table)
    brackets = [(stop or 0, target or 0) for _, stop, target in recorded_table]
    ours = list(zip(table.stops, table.targets, strict=True))
    np.testing.assert_allclose(ours, brackets, rtol=1e-15)


def replay(env: Any, recording: Recording, *, float64: bool, **options: Any) -> dict[str, Any]:
    return trace(
        env,
        recording.arrays["step_action"],
        start=recording.start,
        draws=recording.draws,
        float64=float64,
        **options,
    )


def recorded(recording: Recording, steps: int) -> dict[str, np.ndarray]:
    """The recording in the names of `jaxtrade.trace`, cut to ``steps``."""
    arrays = recording.arrays
    states = {
        "bar_time": arrays["state_bar_time"],
        "cash": arrays["state_balance"],
        "quantity": arrays["state_position_size"],
        "entry_price": arrays["state_entry_price"],
        "liquidation_price": arrays["state_liquidation_price"],
        "equity": arrays["state_portfolio_value"],
        "held_bars": arrays["state_hold_counter"],
        "account_state": arrays["state_account_state_f64"],
    }
    per_step = {
        "event": arrays["step_event_mask"],
        "fill_price": arrays["step_exec_price"],
        "fee": arrays["step_fee_close"] + arrays["step_fee_open"] + arrays["step_exit_fee"],
        "exit_kind": arrays["step_exit_kind"],
        "exit_price": arrays["step_exit_price"],
        "reward": arrays["step_reward_f64"],
        "terminated": arrays["step_terminated"],
        "truncated": arrays["step_truncated"],
    }
    return {
        **{name: values[: steps + 1] for name, values in states.items()},
        **{name: values[:steps] for name, values in per_step.items()},
    }


MONEY = ("cash", "quantity", "entry_price", "liquidation_price", "equity", "fee")


def assert_close_in_float32(
    single: dict[str, np.ndarray], double: dict[str, np.ndarray], relative: float = 2e-5
) -> None:
    """Money within 2e-5 (``relative``), rewards within 1e-6, no decision flipped on rounding.

    A flip would shorten what is compared; none happens in these recordings, so none is allowed.
    Cash is compared on the scale of the equity it is a part of, and money below the slack that
    counts as wiped out (9.54e-7 of the initial equity in float32) is rounding residue. A step with
    an exit may lose up to 99 % of the equity at once; there the log return carries the relative
    error of the money.
    """
    for name in DISCRETE:
        np.testing.assert_array_equal(single[name], double[name], err_msg=name)
    residue = slack(np.dtype(np.float32)) * double["equity"][0]
    for name in MONEY:
        scale = np.abs(double[name])
        if name == "cash":
            scale = np.maximum(scale, np.abs(double["equity"]))
        allowed = relative * scale
        if name in ("cash", "equity"):
            allowed = np.maximum(allowed, residue)
        error = np.abs(single[name] - double[name])
        assert (error <= allowed).all(), (name, error.max())
    error = np.abs(single["reward"] - double["reward"])
    allowed = np.where(double["exit_kind"] > 0, 2e-5, relative / 20)
    assert (error <= allowed).all(), error.max()

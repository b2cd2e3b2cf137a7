"""A replay goes by the rules of the daemon where limits act."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from jaxtrade.market import synthetic
from live import config as configs
from live.replay.backtest import replay

SETTINGS: dict[str, Any] = {
    "env.time_frames": "1min",
    "env.execute_on": "1min",
    "env.window_sizes": "4",
    "env.leverage": "3",
    "env.equity_buffer": "0.02",
    "env.done_on_bankruptcy": "false",
    "policy.baseline": "always_long",
    # The losses of a crash would end it first.
    "risk.disabled": ["daily_loss", "drawdown"],
}


def crash(rows: int = 90, at: int = 75) -> pd.DataFrame:
    """Calm minutes, and one that goes down by half and comes back."""
    prices = {name: np.full(rows, 100.0) for name in ("open", "high", "low", "close")}
    prices["low"][at] = 50.0
    times = pd.date_range("2024-01-01", periods=rows, freq="1min", tz="UTC")
    return pd.DataFrame({"timestamp": times, **prices, "volume": np.full(rows, 5.0)})


@pytest.mark.parametrize("enforced", [True, False])
def test_a_liquidation_halts_a_replay_where_limits_act(enforced: bool) -> None:
    config: Any = configs.load(None, SETTINGS, {})
    report = replay(config, crash(), enforce_risk=enforced)
    assert report["exits"] == {"liquidation": 1}
    assert any("HALTED(liquidation)" in latch for latch in report["latches"])
    # Afterwards the policy wants to be long again, with whatever is left.
    assert (report["trades"] > 2) != enforced
    assert bool(report["denied"]) == enforced


def test_the_rounding_of_a_simulated_fill_contradicts_nothing() -> None:
    more = {
        "policy.baseline": "random",
        "env.action_levels": [-1, -0.5, 0, 0.5, 1],
        "risk.orders_per_minute": "100",
        "risk.orders_per_day": "10000",
    }
    config: Any = configs.load(None, {**SETTINGS, **more}, {})
    report = replay(config, synthetic.minutes(3, 200), enforce_risk=True)
    assert report["latches"] == []
    assert report["trades"] > 100

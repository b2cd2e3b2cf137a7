"""``jaxtrade demo``: the whole path on bundled prices, in minutes, with nothing to download."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agents.settings import Settings


def settings(argv: Sequence[str]) -> Settings:
    """Train several seeds on EUR/USD hours with costs and compare them on the held-out part."""
    parser = argparse.ArgumentParser(
        prog="jaxtrade demo",
        description=settings.__doc__,
        epilog="example: jaxtrade demo --seeds 8",
    )
    parser.add_argument("--seeds", type=int, default=8, help="policies trained side by side")
    parser.add_argument("--total-steps", type=int, default=1_200_000, help="steps of each seed")
    parser.add_argument("--out", default="runs", help="folder that holds run folders")
    parser.add_argument("--name", default=None, help="run folder; default: demo, demo-2, ...")
    given = parser.parse_args(list(argv))
    from agents.ppo import PPOConfig
    from agents.settings import RunSettings, Settings
    from jaxtrade.envs.sequential import SequentialTradingEnvConfig

    return Settings(
        run=RunSettings(
            frame="eurusd_1h",
            split=("0.8",),
            seeds=given.seeds,
            total_steps=given.total_steps,
            updates_per_chunk=8,
            out=given.out,
            name=given.name or _free_name(Path(given.out)),
        ),
        # Half a pip of spread and a fee of a fifth of a basis point: a retail account.
        environment=SequentialTradingEnvConfig(
            symbol="EUR/USD",
            time_frames=("1hour", "4hour", "1day"),
            window_sizes=(12, 6, 5),
            execute_on="1hour",
            leverage=2,
            action_levels=(-1.0, 0.0, 1.0),
            half_spread=0.00005,
            transaction_fee=0.00002,
            slippage=0.00002,
            max_steps=240,
        ),
        learner=PPOConfig(
            learning_rate=1e-3,
            num_envs=128,
            rollout_steps=60,
            minibatches=4,
            epochs=3,
            hidden_sizes=(64, 64),
            entropy_coefficient=0.01,
            gamma=0.98,
        ),
    )


def _free_name(out: Path) -> str:
    """demo, or the first demo-N that is not taken."""
    if not (out / "demo").exists():
        return "demo"
    number = 2
    while (out / f"demo-{number}").exists():
        number += 1
    return f"demo-{number}"

"""Means of a chunk of training, formed on the host from what left the device."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

Array = jax.Array


def summarize(metrics: dict[str, Array], axis: int | tuple[int, ...] = 0) -> dict[str, Any]:
    """Means of one chunk, formed on the host from its sums and counts.

    Args:
      metrics: of `learner.train_chunk`. axis: the update axis (and the seed axis, to pool seeds).

    Returns: what the metrics tell: of episodes and money where the environment records them, of the
      loss by the names of the learner. What no episode has filled yet is NaN.
    """
    total = {
        name: np.asarray(x, np.float64).max(axis)
        if name.endswith("_max")
        else np.asarray(x, np.float64).sum(axis)
        for name, x in metrics.items()
    }
    means = {"steps": total["steps"]}
    if "episodes" in total:
        means |= _episodes(total)
    batches = total["minibatches"]
    for name, value in total.items():
        if name.startswith("loss_"):
            means[name.removeprefix("loss_")] = value / batches
    means["gradient_norm"] = total["gradient_norm"] / batches
    if "value_error_sum" in total:
        variance = np.maximum(total["target_variance_sum"], 1e-12)
        means["explained_variance"] = 1 - total["value_error_sum"] / variance
    if "groups" in total:
        means["groups_alike"] = total["groups_alike"] / total["groups"]
    if "action_counts" in total:
        means["action_share"] = total["action_counts"] / total["steps"][..., None]
    means["nonfinite"] = total.get("nonfinite", 0) + total["nonfinite_losses"]
    return means


def _episodes(total: dict[str, Any]) -> dict[str, Any]:
    """Means over finished episodes and, of the money, over all steps."""
    steps, episodes = total["steps"], np.maximum(total["episodes"], 1)
    none = np.where(total["episodes"] > 0, 1.0, np.nan)
    mean = total["return_sum"] / episodes
    spread = np.sqrt(np.maximum(total["return_square_sum"] / episodes - np.square(mean), 0))
    means = {
        "episodes": total["episodes"],
        "return_mean": mean * none,
        "return_std": spread * none,
        "ruins": total["ruins"],
        "truncations": total["truncations"],
    }
    if "equity_ratio_sum" not in total:
        return means
    return means | {
        "equity_ratio": total["equity_ratio_sum"] / episodes * none,
        "trades_per_step": total["trades"] / steps,
        "cost_per_step": total["cost"] / steps,
        "turnover_per_step": total["turnover"] / steps,
        "exposure": total["exposure_sum"] / steps,
        "drawdown_max": total["drawdown_max"],
    }

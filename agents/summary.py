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
    """
    total = {
        name: np.asarray(x, np.float64).max(axis)
        if name.endswith("_max")
        else np.asarray(x, np.float64).sum(axis)
        for name, x in metrics.items()
    }
    steps, episodes = total["steps"], np.maximum(total["episodes"], 1)
    none = np.where(total["episodes"] > 0, 1.0, np.nan)
    batches = total["minibatches"]
    mean = total["return_sum"] / episodes
    spread = np.sqrt(np.maximum(total["return_square_sum"] / episodes - np.square(mean), 0))
    return {
        "steps": steps,
        "episodes": total["episodes"],
        "return_mean": mean * none,
        "return_std": spread * none,
        "equity_ratio": total["equity_ratio_sum"] / episodes * none,
        "ruins": total["ruins"],
        "truncations": total["truncations"],
        "trades_per_step": total["trades"] / steps,
        "cost_per_step": total["cost"] / steps,
        "turnover_per_step": total["turnover"] / steps,
        "exposure": total["exposure_sum"] / steps,
        "drawdown_max": total["drawdown_max"],
        "loss": total["loss_loss"] / batches,
        "policy_loss": total["loss_policy_loss"] / batches,
        "value_loss": total["loss_value_loss"] / batches,
        "entropy": total["loss_entropy"] / batches,
        "kl": total["loss_kl"] / batches,
        "clip_fraction": total["loss_clip_fraction"] / batches,
        "gradient_norm": total["gradient_norm"] / batches,
        "explained_variance": 1
        - total["value_error_sum"] / np.maximum(total["target_variance_sum"], 1e-12),
        "action_share": total["action_counts"] / steps[..., None],
        "nonfinite": total["nonfinite"] + total["nonfinite_losses"],
    }

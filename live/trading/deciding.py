"""Asking the policy: in time, and with a hold for whatever goes wrong.

A compiled policy answers at once; a user's function gets a thread, where it can be waited for in
vain.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from live.journal import Journal
from live.policy import QUICK, Policy
from live.trading.acts import Acted, View

_log = logging.getLogger("live.trading.deciding")


@dataclass(frozen=True, slots=True)
class Decided:
    """What the policy said.

    Attributes:
      action: None = hold. milliseconds: it took. fallback: somebody held in its place.
    """

    action: Any
    milliseconds: float
    fallback: bool

    def row(self, view: View, acted: Acted) -> dict[str, Any]:
        """The decision as the page shows it."""
        return {
            "bar_open_ms": view.snapshot.bar_open_ms,
            "action": None if self.action is None else np.asarray(self.action).tolist(),
            "level": acted.plans[0].level,
            "decision": str(acted.decision),
            "refused": acted.refused,
            "reason": acted.plans[-1].reason,
            "policy_ms": self.milliseconds,
            "fallback": self.fallback,
            "observation": view.observation,
        }


async def decide(
    policy: Policy,
    view: View,
    journal: Journal,
    *,
    deadline: float,
    wall: Callable[[], float],
) -> Decided:
    """What the policy says, in time and without an error; hold otherwise.

    Args:
      journal: gets what the policy raised. deadline: seconds. wall: measures, seconds.
    """
    begun = wall()
    try:
        async with asyncio.timeout(deadline):
            if isinstance(policy, QUICK):
                action: Any = policy(view.observation, view.info)
            else:
                action = await asyncio.to_thread(policy, view.observation, view.info)
    except TimeoutError:
        _log.warning("policy: no action within %g s; holding", deadline)
        return Decided(None, (wall() - begun) * 1000, fallback=True)
    except Exception as error:  # the user's code: whatever it raises must not end the daemon
        _log.warning("policy: failed; holding", exc_info=True)
        detail = f"{type(error).__name__}: {error}"
        journal.event("policy", view.snapshot.instrument.symbol, {"detail": detail})
        return Decided(None, (wall() - begun) * 1000, fallback=True)
    return Decided(action, (wall() - begun) * 1000, fallback=False)

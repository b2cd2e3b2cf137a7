"""From a bundle to the settings of a run: what the policy was trained on, as a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxtrade.bundle import Bundle
from live.config.environments import ENVIRONMENTS

# The environment of the training -> the one that trades, and what that adds.
_COUNTERPARTS: dict[str, tuple[str, dict[str, Any]]] = {
    "SequentialTradingEnv": ("BybitFuturesTradingEnv", {}),
    "SequentialTradingEnvSLTP": ("BybitFuturesSLTPTradingEnv", {}),
    # One decision, then the bracket decides: the next one waits for that.
    "OneStepTradingEnv": ("BybitFuturesSLTPTradingEnv", {"lock_position_until_sltp": True}),
}
# Fee and margin are the venue's, the instrument is for the user to say; rules are compared below.
_VENUES = ("symbol", "transaction_fee", "maintenance_margin_rate", "rules")


def settings_of(path: str | Path) -> tuple[str, dict[str, Any]]:
    """Name of the trading environment, and its fields as they were in training.

    Raises:
      ValueError: the file is no bundle, or of an environment that nothing here trades.
    """
    bundle = Bundle.load(path)
    if bundle.environment not in _COUNTERPARTS:
        raise ValueError(
            f"{path}: was trained in {bundle.environment}; only policies of "
            f"{', '.join(_COUNTERPARTS)} can be traded"
        )
    name, added = _COUNTERPARTS[bundle.environment]
    known = ENVIRONMENTS[name].table_fields()
    fields: dict[str, Any] = {
        field: value
        for field, value in bundle.config.items()
        if field in known and field not in _VENUES and value is not None
    }
    if "levels" in bundle.actions:
        fields["action_levels"] = list(bundle.actions["levels"])
    usual = known["rules"].default
    rules = {
        field: value
        for field, value in (bundle.config.get("rules") or {}).items()
        if value != getattr(usual, field)
    }
    if rules:
        fields["rules"] = rules
    return name, {**fields, **added}

"""What a policy sees: closed bars, windows of features, the account. Pure."""

from live.observation.observer import DEFAULT_LOOKBACK, Observer

__all__ = ["DEFAULT_LOOKBACK", "Observer"]

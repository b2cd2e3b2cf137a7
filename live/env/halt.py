"""What an environment raises when its account or its bars cannot be read any more."""

from __future__ import annotations


class LiveObservationHalt(RuntimeError):  # noqa: N818  (a name users know)
    """Bars could not be read for too long: the environment stopped, protective orders stay.

    Attributes:
      original: what the last read raised. policy: "halt", "hold" or "flatten", as configured.
      flatten_accepted: the venue took an order that closes; None = none was sent.
      flatten_error: why closing did not succeed, or None.
      flatten_confirmed: the account was read to be flat afterwards; None = nothing was tried.
    """

    def __init__(
        self,
        original: Exception,
        policy: str,
        flatten_accepted: bool | None = None,
        flatten_error: str | None = None,
        flatten_confirmed: bool | None = None,
    ) -> None:
        super().__init__(original, policy, flatten_accepted, flatten_error, flatten_confirmed)
        self.original, self.policy = original, policy
        self.flatten_accepted, self.flatten_error = flatten_accepted, flatten_error
        self.flatten_confirmed = flatten_confirmed

    def __str__(self) -> str:
        text = f"observation_failure_policy {self.policy!r}: {self.original}"
        if self.flatten_confirmed is None:
            return f"{text} Positions and protective orders were left as they are."
        if self.flatten_confirmed:
            return f"{text} The position was closed."
        why = self.flatten_error or "flat could not be read"
        return f"{text} Closing the position is not confirmed ({why}); look at the account."

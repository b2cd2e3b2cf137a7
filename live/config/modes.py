"""The two switches of real money."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from live.config.environments import FractionalEnvConfig
from live.config.schema import LiveConfig
from live.fields import ConfigError

CONFIRM_VARIABLE = "JAXTRADE_CONFIRM_LIVE"


def check_modes(config: LiveConfig, confirm: str | None = None) -> None:
    """Refuse every combination of mode, account and confirmation but the three that make sense.

    Real money needs two switches: ``demo = false`` in the environment, and the account's name on
    the command line or in ``JAXTRADE_CONFIRM_LIVE``. That the name is the account's is checked by
    `live.secrets.confirm_account` once the venue has told it.

    Args:
      confirm: the account's name as given.

    Raises:
      ConfigError: naming everything that does not fit.
    """
    problems = list(_mode_problems(config, confirm))
    if problems:
        raise ConfigError(problems)


def _mode_problems(config: LiveConfig, confirm: str | None) -> Iterator[str]:
    mode, env = config.runner.mode, config.env
    if mode == "live":
        if env.demo:
            yield "[env] demo: must be false with [runner] mode = 'live'"
        if not confirm:
            yield (
                "mode 'live' trades real money: confirm it with --confirm-live ACCOUNT or "
                f"{CONFIRM_VARIABLE}=ACCOUNT (the account's id, or key: and the first 8 hex digits "
                "of the SHA-256 of its API key)"
            )
        if config.venue.base_url is not None or config.venue.stream_url is not None:
            yield "[venue] base_url, stream_url: a local exchange server is not real money; remove"
    else:
        if not env.demo:
            yield (
                f"[env] demo: must be true with [runner] mode = {mode!r}; real money needs "
                "mode = 'live'"
            )
        if confirm is not None:
            yield f"--confirm-live and {CONFIRM_VARIABLE}: only for mode 'live', mode is {mode!r}"
    unstopped = isinstance(env, FractionalEnvConfig) and env.disaster_stop_fraction is None
    if mode != "paper" and unstopped:
        yield (
            f"[env] disaster_stop_fraction: none is for replay and paper; mode {mode!r} needs "
            "'auto' or a fraction"
        )


def confirmation(given: str | None, environ: Mapping[str, str] | None = None) -> str | None:
    """The confirmed account of the command line or, failing that, of the environment.

    Raises:
      ConfigError: both are given and differ.
    """
    variable = (os.environ if environ is None else environ).get(CONFIRM_VARIABLE) or None
    if given and variable and given != variable:
        raise ConfigError([f"--confirm-live and {CONFIRM_VARIABLE} name different accounts"])
    return given or variable

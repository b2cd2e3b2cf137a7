"""Keys of an environment: refused where nothing uses them, asked for where something does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from jaxtrade.hints import did_you_mean
from live.config.environments import ExchangeEnvConfig
from live.config.modes import CONFIRM_VARIABLE, confirmation
from live.fields import ConfigError
from live.secrets import Secret, confirm_account, read_secrets, refuse_unused

# What other venues call their keys; somebody who gives one has mistaken the environment.
_KEY_WORDS = ("key", "secret", "pass", "token", "credential")


def refuse_unknown(
    unknown: Mapping[str, Any], known: tuple[str, ...], config: ExchangeEnvConfig
) -> None:
    """Refuse arguments that no environment of this venue has.

    Raises:
      ConfigError: one looks like a key; an empty one counts.
      TypeError: any other.
    """
    keys = [name for name in unknown if any(word in name.lower() for word in _KEY_WORDS)]
    if keys:
        venue, names = config.constants.venue, " and ".join(config.constants.secrets)
        refuse_unused(dict.fromkeys(keys, ""), f"{venue} knows {names} only")
    for name in unknown:
        hint = did_you_mean(name, known) or f"known: {', '.join(known)}"
        raise TypeError(f"unexpected argument {name!r}; {hint}.")


def refuse_given(given: Mapping[str, str | Secret | None]) -> None:
    """Refuse keys beside a venue that trades without them.

    Raises:
      ConfigError: one was given, even an empty one.
    """
    refuse_unused(given, "trader= is what trades, with keys of its own")


def keys_of(
    config: ExchangeEnvConfig,
    given: Mapping[str, str | Secret | None],
    environ: Mapping[str, str] | None = None,
) -> dict[str, Secret]:
    """The keys of the venue, from the arguments or the environment, with everything they need.

    Raises:
      ConfigError: keys are missing or doubtful; real money is not confirmed; or levels would be
        traded on an account without a stop of last resort.
    """
    variables = os.environ if environ is None else environ
    problems = []
    if not config.demo and confirmation(None, variables) is None:
        problems.append(
            f"demo: false trades real money: confirm it with {CONFIRM_VARIABLE}=ACCOUNT (the "
            "account's id, or key: and the first 8 hex digits of the SHA-256 of its API key)"
        )
    if getattr(config, "disaster_stop_fraction", "auto") is None:
        problems.append(
            "disaster_stop_fraction: none is for replay and paper; give 'auto' or a fraction"
        )
    if problems:
        raise ConfigError(problems)
    return read_secrets(config.constants.secrets, given=given, environ=variables)


def confirm(
    config: ExchangeEnvConfig,
    account_id: str,
    keys: Mapping[str, Secret],
    environ: Mapping[str, str] | None = None,
) -> None:
    """The second switch of real money, once the venue has told whose account it is.

    Raises:
      ConfigError: another account was confirmed.
    """
    if not config.demo:
        confirm_account(confirmation(None, environ) or "", account_id, keys["api_key"])

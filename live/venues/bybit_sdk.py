"""The SDK of Bybit, loaded when it is needed and made to send every request exactly once."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from typing import Any

from jaxtrade.extras import missing_extra
from live.venues.bybit_wire import RECV_WINDOW_MS, Hosts


def load() -> tuple[Any, Any]:
    """The SDK's exceptions and its HTTP class.

    Raises:
      ImportError: it is not installed.
    """
    try:
        errors = importlib.import_module("pybit.exceptions")
        http = importlib.import_module("pybit.unified_trading").HTTP
    except ImportError:
        raise missing_extra("the Bybit adapter", "pybit", "live") from None
    # At DEBUG it writes whole replies, and one refusal repeats the key.
    logging.getLogger("pybit").setLevel(logging.WARNING)
    return errors, http


def session(
    http: Any, keys: Mapping[str, str], hosts: Hosts, demo: bool, timeout: tuple[float, float]
) -> Any:
    """A session that sends every request exactly once, to one host.

    Args:
      keys: ``api_key`` and ``api_secret``, or nothing. timeout: of connecting and reading, seconds.
    """
    made = http(
        demo=demo,
        timeout=timeout,
        recv_window=RECV_WINDOW_MS,
        max_retries=1,
        retry_codes={-1},  # an empty set would mean the default ones
        return_response_headers=True,
        **keys,
    )
    made.endpoint = hosts.rest
    made.force_retry = False
    made.client.max_redirects = 0  # a redirected request would be a second one
    if hosts.local:
        made.client.trust_env = False  # no proxy between this machine and itself
    return made

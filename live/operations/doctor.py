"""`jaxtrade live doctor`: everything that can be found out before a run, row by row.

The half that asks nobody is `live.operations.preflight`; this adds what the venue says. Reads
alone: nothing is set, sent or cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from live.clock import SystemClock
from live.config import LiveConfig
from live.operations import doctor_account as accounts
from live.operations import doctor_policy as policies
from live.operations import doctor_venue as asks
from live.operations import preflight
from live.operations.doctor_rows import NETWORK, Row, Verdict, answered, guarded
from live.operations.doctor_venue import Visit
from live.secrets import read_secrets
from live.timing import OffsetEstimator
from live.types import UnreadableError
from live.venues.codes import UnreachableError

_CHECK_SECONDS = 20.0
_HISTORY_SECONDS = 60.0
_AT_ONCE = 8  # symbols that are asked about
_LOOKED_INTO = 3  # symbols whose data and policy are looked into: those of the others are alike
# Without these the venue is not asked: it would be another one, or with other keys.
_FIRST = ("config", "modes", "secrets")
_Asked = Callable[[Visit], AsyncIterator[Row]]
# In order: later ones use what earlier ones have read.
_OF_ACCOUNT: tuple[tuple[str, str, _Asked], ...] = (
    ("host", "clock", asks.clock),
    ("permissions", "key", accounts.permissions),
    ("environment", "account", accounts.environment),
    ("account", "dead man", accounts.deadman),
    ("state", "next bar", asks.boundary),
)
_OF_SYMBOL: tuple[tuple[str, str, _Asked], ...] = (
    ("account", "settings", accounts.settings),
    ("account", "position", accounts.strangers),
    ("symbol", "smallest order", asks.smallest),
)
GROUPS = (
    *("host", "config", "modes", "secrets", "permissions", "environment", "account", "symbol"),
    *("data", "policy", "state"),
)


def examine(
    path: str | Path | None,
    overrides: Mapping[str, Any],
    *,
    confirm: str | None = None,
    credentials: str | Path | None = None,
    withdrawing: bool = False,
    environ: Mapping[str, str] | None = None,
) -> list[Row]:
    """Every check of a configuration, by group.

    Args:
      confirm: account of the second switch. withdrawing: accept keys that may withdraw.
      environ: None = of this process.
    """
    config, rows = preflight.loaded(path, overrides, environ)
    if config is None:
        return rows
    return ordered(
        rows
        + examined(
            config,
            confirm=confirm,
            credentials=credentials,
            withdrawing=withdrawing,
            path=path,
            environ=environ,
        )
    )


def examined(
    config: LiveConfig,
    *,
    confirm: str | None = None,
    credentials: str | Path | None = None,
    withdrawing: bool = False,
    path: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> list[Row]:
    """Every check of a configuration that was loaded; arguments as for `examine`.

    Args:
      path: of the configuration file, which must hold no key.
    """
    rows = preflight.local(config, confirm, credentials, path=path, environ=environ)
    if any(row.verdict is Verdict.FAIL and row.group in _FIRST for row in rows):
        text = "not asked: first mend configuration and keys"
        return ordered([*rows, Row("environment", "venue", Verdict.SKIP, text)])
    wanted = {} if config.runner.mode == "paper" else config.env.constants.secrets
    keys = read_secrets(wanted, environ=environ, file=credentials) if wanted else {}
    # Heavy, and of no use where the configuration is wrong.
    from live.runner import clock_limits, venue_of

    # The rows say the same; without logs that are configured it would be printed beside them.
    logging.getLogger("live.venues.circuit").addHandler(logging.NullHandler())
    limits, estimator = clock_limits(config), OffsetEstimator()
    clock = SystemClock(estimator, limits)
    visit = Visit(
        config,
        venue_of(config, keys, clock, looking=True),
        clock,
        estimator,
        limits,
        keys,
        confirm,
        withdrawing,
    )
    return ordered(rows + asyncio.run(visited(visit)))


async def visited(visit: Visit) -> list[Row]:
    """What the venue of a visit says; it is connected and closed here."""
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(visit.venue.close)
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                await visit.venue.connect()
        except UnreachableError as error:
            return [Row("environment", "venue", Verdict.FAIL, str(error), NETWORK)]
        except (UnreadableError, ValueError, OSError, TimeoutError) as error:
            said = str(error) or f"no answer within {_CHECK_SECONDS:g} s"
            fix = "look at the network and at the keys"
            return [Row("environment", "venue", Verdict.FAIL, said, fix)]
        rows = []
        for group, name, check in _OF_ACCOUNT:
            rows += await answered(group, name, functools.partial(check, visit), _CHECK_SECONDS)
            if rows and rows[0].fix == NETWORK:  # nothing else could be asked
                return rows
        rows += await _listed(visit)
        return rows


async def _listed(visit: Visit) -> list[Row]:
    """Every symbol, several at once; the account in between, which paper has with a symbol."""
    names = visit.config.symbols
    # The first one reads what all share.
    visit.symbol = names[0]
    rows = await answered(
        "symbol", "filters", functools.partial(asks.symbol, visit), _CHECK_SECONDS
    )
    rows += await answered(
        "account", "balance", functools.partial(accounts.account, visit), _CHECK_SECONDS
    )
    rows += await _of_symbol(visit, looked_into=True)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def other(place: int, name: str) -> list[Row]:
        async with gate:
            one = dataclasses.replace(visit, symbol=name, instrument=None, quote=None)
            asked = functools.partial(asks.symbol, one)
            found = await answered("symbol", "filters", asked, _CHECK_SECONDS)
            return found + await _of_symbol(one, looked_into=place < _LOOKED_INTO)

    others = [other(place, name) for place, name in enumerate(names[1:], start=1)]
    found = [rows, *await asyncio.gather(*others)]
    if len(names) == 1:
        return rows
    return condensed(dict(zip(names, found, strict=True)))


async def _of_symbol(visit: Visit, *, looked_into: bool) -> list[Row]:
    """What is asked of a symbol that is listed."""
    if visit.instrument is None:
        return [Row("account", "settings", Verdict.SKIP, "the symbol was not read")]
    rows = []
    for group, name, check in _OF_SYMBOL:
        rows += await answered(group, name, functools.partial(check, visit), _CHECK_SECONDS)
    return rows + (await _observed(visit) if looked_into else [])


async def _observed(visit: Visit) -> list[Row]:
    """What hangs on the policy: the data it would see, and its decisions."""
    from live.trading.policies import policy_of

    try:
        observer, policy = policy_of(visit.config, visit.decision)
    except (ValueError, OSError, ImportError) as error:
        return [Row("policy", "loaded", Verdict.FAIL, str(error))]
    try:
        async with asyncio.timeout(_HISTORY_SECONDS):
            bars = await policies.history(visit, observer)
    except (UnreadableError, TimeoutError) as error:
        said = str(error) or f"bars did not come within {_HISTORY_SECONDS:g} s"
        return [Row("data", "bars", Verdict.FAIL, said, "try again")]
    now = visit.clock.now_ms()
    rows = guarded("data", "bars", lambda: policies.frames(bars, observer, now))
    rows += guarded("data", "resampled", lambda: policies.resampled(bars, observer))
    rows += guarded("policy", "memory", lambda: policies.memory(bars, observer))
    rows += await answered(
        "policy",
        "inference",
        lambda: policies.inference(visit, bars, observer, policy),
        _HISTORY_SECONDS + visit.config.policy_timeout_seconds,
    )
    return rows


def condensed(found: Mapping[str, list[Row]]) -> list[Row]:
    """Rows of many symbols: what is wrong by name, what is right once."""
    rows: list[Row] = []
    alike: dict[tuple[str, str, Verdict], list[str]] = {}
    for symbol, own in found.items():
        for row in own:
            if row.verdict in (Verdict.WARN, Verdict.FAIL):
                rows.append(dataclasses.replace(row, text=f"{symbol}: {row.text}"))
            else:
                alike.setdefault((row.group, row.name, row.verdict), []).append(row.text)
    for (group, name, verdict), texts in alike.items():
        many = f"{len(texts)} symbols, such as: {texts[0]}" if len(texts) > 1 else texts[0]
        rows.append(Row(group, name, verdict, many))
    return rows


def ordered(rows: list[Row]) -> list[Row]:
    """Rows by group, in the order in which they are to be mended."""
    return sorted(rows, key=lambda row: GROUPS.index(row.group))

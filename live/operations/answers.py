"""What the operations page answers with: its source, and strict JSON without secrets."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections import deque
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

import numpy as np

from jaxtrade.extras import missing_extra
from live.secrets import redact

try:
    from aiohttp import web
except ImportError as error:
    raise missing_extra("live server", "aiohttp", "live") from error


class StatusSource(Protocol):
    """What the runner tells the page; every method but `command` returns at once."""

    def status(self, symbol: str | None = None) -> Mapping[str, Any]:
        """Everything `page.html` shows, as plain values; `live.trading.status` makes it.

        ``time_ms, started_ms, mode, venue, account, strategy, version, state, reasons``;
        ``latches``: state, reason, detail, set_ms; ``unacknowledged``: changes that wait;
        ``equity``: now, available, initial, peak, day_start, asset, drawdown, daily_loss;
        ``equity_history``: [ms, equity] pairs; ``feeds``: name, age_seconds, limit_seconds, symbol;
        ``clock``: offset_ms, uncertainty_ms; ``held_up``: routes of the venue that ordinary reads
        may not ask now -> why; ``breakers``: name, value, limit; ``disabled``: those switched off;
        ``symbol``: the one in detail; ``symbols``: symbol, execute_on, next_bar_ms,
        state, reasons, frozen, policy, steps, missed_bars, position (state "flat", "held" or
        "unknown", quantity, entry_price, mark_price, unrealised_pnl, liquidation_price, reason),
        protection (state, stop_price, target_price, where), decision (the newest), unknown_orders
        (client_id, age_seconds); of the one in detail also orders (client_id, role, side, quantity,
        filled, trigger_price, status, time_ms) and decisions newest first (bar_open_ms, action,
        level, decision, refused, reason, policy_ms, fallback, observation: key -> columns and rows,
        or labels and values). What is missing is shown as unknown.

        Args:
          symbol: the one in detail; None = the first.

        Raises:
          ValueError: it is not traded.
        """

    def ready(self) -> tuple[bool, Sequence[str]]:
        """Whether new positions may be opened, and why not."""

    def tick_age(self) -> float:
        """Seconds since the runner last went round its loop."""

    async def command(self, name: str, reason: str) -> Mapping[str, Any]:
        """Carry out one of `COMMANDS`: journalled before it returns.

        Raises:
          ValueError: it cannot be carried out now; the message says why.
        """


def to_json(value: Any) -> str:
    """Strict JSON without secrets: exact decimals as text, what is not finite as null."""
    # Once as plain text and once as JSON, where a secret may only then be spelled out.
    return redact(json.dumps(_plain(value), allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, str):
        return redact(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return f"{value:f}" if value.is_finite() else None
    if isinstance(value, np.ndarray | np.integer | np.bool_):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {redact(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | deque):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return redact(str(value))


def answer(status: int, body: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer with a JSON body."""
    return web.Response(
        status=status, text=to_json(body), content_type="application/json", headers=headers
    )

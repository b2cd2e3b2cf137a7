"""What goes wrong in a storm (`live.bench.storm`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# What may happen to the messages of a route: (route, fault, arguments).
MESSAGES: Sequence[tuple[str, str, Mapping[str, Any]]] = (
    ("order/create", "accept_then_drop", {}),
    ("order/create", "drop_before_accept", {}),
    ("order/create", "accept_then_garbage", {}),
    ("order/create", "accept_then_html_502", {}),
    ("order/create", "html_502", {}),
    ("order/create", "reject", {"code": 110007}),
    ("order/cancel", "accept_then_drop", {}),
    ("position/trading-stop", "accept_then_drop", {}),
    ("position/trading-stop", "drop_before_accept", {}),
    ("position/list", "status", {"code": 503}),
    ("position/list", "stale_snapshot", {}),
    ("position/list", "drop_field", {"path": "result.list.0.size"}),
    ("order/realtime", "html_502", {}),
    ("order/realtime", "stale_snapshot", {}),
    ("execution/list", "stale_snapshot", {}),
    ("execution/list", "status", {"code": 500}),
    ("account/wallet-balance", "mutate_field", {"path": "result.list.0", "value": {}}),
    ("market/tickers", "accept_then_garbage", {}),
    ("market/kline", "late_bar", {}),
    ("market/kline", "missing_bar", {}),
    ("market/kline", "revise_bar", {}),
    ("stream/private", "duplicate_events", {}),
    ("stream/private", "shuffle_events", {}),
    ("stream/private", "garbage_event", {}),
    ("stream/private", "drop_stream", {}),
)
# What may happen at the exchange.
DEEDS = (
    "partition",
    "part, rest cancelled",
    "part, rest open",
    "late fill",
    "stop gone",
    "stop refused",
    "trade by hand",
    "funding",
)

"""What every adapter must make of every outcome of every operation: the cases, and their page.

``python -m tests.live.conformance > docs/conformance.md`` writes the page; `test_conformance` runs
every cell of it against the local exchange. An adapter is added by one entry of `ADAPTERS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from live.exchange.server import ExchangeServer
from live.types import (
    Bracket,
    Found,
    Held,
    Intent,
    IntentKind,
    MarginMode,
    PositionMode,
    Role,
    Side,
)
from live.venue import Venue
from live.venues.bybit import BybitVenue
from tests.live.bybit_server import PATIENT, SYMBOL, around, be_patient, connected, intent

FRAME, BARS = "1Minute", 5
QUANTITY = Decimal("0.02")
LEVERAGE = Decimal(3)


@dataclass(frozen=True)
class Stage:
    """A venue and its exchange, with what every case finds there: a position, a resting stop."""

    venue: Venue
    server: ExchangeServer
    name: str
    held: Intent
    resting: Intent
    bracket: Bracket

    @classmethod
    async def of(cls, adapter: Adapter, venue: Venue, server: ExchangeServer) -> Stage:
        """Set the leverage, buy, and leave a stop far away."""
        await venue.configure(SYMBOL, LEVERAGE, MarginMode.ISOLATED, PositionMode.ONE_WAY)
        held = intent(quantity=QUANTITY)
        await venue.submit(held)
        bracket = around(server.engine.mark(adapter.listed))
        resting = intent(
            IntentKind.STOP,
            role=Role.STOP,
            side=Side.SELL,
            quantity=QUANTITY,
            reduce_only=True,
            trigger_price=around(server.engine.mark(adapter.listed), stop="0.5").stop_price,
        )
        await venue.submit(resting)
        return cls(venue, server, adapter.listed, held, resting, bracket)


Call = Callable[[Stage], Awaitable[Any]]
Truth = Callable[[Stage, Any], bool]


@dataclass(frozen=True)
class Change:
    """An operation that changes something: how it is asked for, and whether it was done."""

    call: Call
    done: Callable[[Stage], bool]


BUY = intent(quantity=QUANTITY)


def _filled(stage: Stage) -> bool:
    return any(order.client_id == BUY.client_id for order in stage.server.engine.orders(stage.name))


def _rests(stage: Stage) -> bool:
    orders = stage.server.engine.orders(stage.name, live=True)
    return any(order.client_id == stage.resting.client_id for order in orders)


CHANGES: Mapping[str, Change] = MappingProxyType(
    {
        "submit": Change(lambda stage: stage.venue.submit(BUY), _filled),
        "cancel": Change(
            lambda stage: stage.venue.cancel(SYMBOL, stage.resting.client_id),
            lambda stage: not _rests(stage),
        ),
        "amend_protection": Change(
            lambda stage: stage.venue.amend_protection(SYMBOL, stage.bracket),
            lambda stage: stage.server.engine.bracket(stage.name) == stage.bracket,
        ),
    }
)


@dataclass(frozen=True)
class Read:
    """An operation that only asks, and whether an answer is what the exchange's ledger says."""

    call: Call
    right: Truth


def _is_held(stage: Stage, found: Any) -> bool:
    return isinstance(found, Held) and found.quantity == stage.server.engine.position(stage.name)


def _is_rest(stage: Stage, found: Any) -> bool:
    return [order.client_id for order in found] == [stage.resting.client_id]


def _is_fill(stage: Stage, found: Any) -> bool:
    return [fill.client_id for fill in found] == [stage.held.client_id]


READS: Mapping[str, Read] = MappingProxyType(
    {
        "server_time": Read(
            lambda stage: stage.venue.server_time(),
            lambda stage, found: abs(found - stage.server.clock.now_ms()) < 60_000,
        ),
        "listing": Read(
            lambda stage: stage.venue.listing(SYMBOL),
            lambda stage, found: found.quantity_step > 0 and found.symbol == SYMBOL,
        ),
        "account": Read(
            lambda stage: stage.venue.account(),
            lambda stage, found: bool(found.account_id),
        ),
        "settings": Read(
            lambda stage: stage.venue.settings(SYMBOL),
            lambda stage, found: found.leverage == LEVERAGE,
        ),
        "closed_bars": Read(
            lambda stage: stage.venue.closed_bars(SYMBOL, FRAME, BARS),
            lambda stage, found: len(found.open_time_ms) == BARS,
        ),
        "position": Read(lambda stage: stage.venue.position(SYMBOL), _is_held),
        "balance": Read(
            lambda stage: stage.venue.balance(),
            lambda stage, found: abs(found.equity - stage.server.engine.equity()) < Decimal("1e-6"),
        ),
        "quote": Read(
            lambda stage: stage.venue.quote(SYMBOL),
            lambda stage, found: found.mark == stage.server.engine.mark(stage.name),
        ),
        "orders": Read(lambda stage: stage.venue.orders(SYMBOL), _is_rest),
        "query": Read(
            lambda stage: stage.venue.query(SYMBOL, stage.held.client_id),
            lambda stage, found: isinstance(found, Found) and found.report.filled == QUANTITY,
        ),
        "fills": Read(
            lambda stage: stage.venue.fills(SYMBOL, stage.server.clock.now_ms() - 60_000),
            _is_fill,
        ),
    }
)


@dataclass(frozen=True)
class Outcome:
    """What happens to a request.

    Attributes:
      says: for the page. fault: of the exchange's script, "" = none. given: its arguments.
      code: a name of the adapter's codes, for a refusal.
      done: a change takes effect all the same. count: how often, None = always.
    """

    says: str
    fault: str = ""
    given: Mapping[str, Any] = field(default_factory=dict)
    code: str = ""
    done: bool = False
    count: int | None = 1


OUTCOMES: Mapping[str, Outcome] = MappingProxyType(
    {
        "answered": Outcome("answered", done=True),
        "refused": Outcome("refused by a rule", "reject", code="refused"),
        "key": Outcome("key refused", "reject", code="key"),
        "clock": Outcome("time of the request refused", "reject", code="clock"),
        "new_code": Outcome("refused with a code nobody knows", "reject", code="new"),
        "throttled": Outcome("too many requests", "rate_limit"),
        "banned": Outcome("address banned", "ban"),
        "error": Outcome("HTTP 502 instead of being carried out", "html_502"),
        "dropped": Outcome("connection lost on the way there", "drop_before_accept"),
        "lost": Outcome("connection lost on the way back", "accept_then_drop", done=True),
        "error_after": Outcome(
            "HTTP 502 after it was carried out", "accept_then_html_502", done=True
        ),
        "garbled": Outcome("reply cut short", "accept_then_garbage", done=True),
        "silent": Outcome(
            "no reply, as long as one waits", "accept_then_delay", done=True, count=None
        ),
    }
)
ACCEPTED, IN_DOUBT, RIGHT, AGAIN = "accepted", "in doubt", "right", "right, asked again"
NOT_LISTED = "not listed"


def refused(category: str) -> str:
    """The cell of a change that certainly did not happen."""
    return f"refused: {category}"


def unreadable(category: str = "") -> str:
    """The cell of a read that says nothing."""
    return f"unreadable: {category}" if category else "unreadable"


@dataclass(frozen=True)
class Adapter:
    """One adapter: how it is reached, and what its venue's refusals are.

    Attributes:
      connected: adapter and exchange for one case. hurry: lets the adapter wait only briefly.
      listed: the symbol in the venue's words.
      routes: operation -> where its request goes. codes: refusals, by operation where they differ.
      cells: what differs from the rules below, by operation ("*" = all) and outcome.
    """

    connected: Callable[[], AbstractAsyncContextManager[tuple[Any, ExchangeServer]]]
    hurry: Callable[[Any], None]
    listed: str
    routes: Mapping[str, str]
    codes: Mapping[str, int | Mapping[str, int]]
    cells: Mapping[tuple[str, str], str]

    def code(self, name: str, operation: str) -> int:
        """A refusal's code for an operation."""
        found = self.codes[name]
        return found if isinstance(found, int) else found.get(operation, found["read"])

    def cell(self, operation: str, outcome: str) -> str:
        """What the caller must learn."""
        default = _change(outcome) if operation in CHANGES else _read(outcome)
        for key in ((operation, outcome), ("*", outcome)):
            if key in self.cells:
                return self.cells[key]
        return default


def _change(outcome: str) -> str:
    """Of a change: only what is certain may be called accepted or refused."""
    match outcome:
        case "answered":
            return ACCEPTED
        case "key" | "clock":
            return refused({"key": "auth"}.get(outcome, outcome))
        case _:
            return IN_DOUBT


def _read(outcome: str) -> str:
    """Of a read: it is asked again where that may help."""
    match outcome:
        case "answered":
            return RIGHT
        case "refused" | "silent":
            return unreadable()
        case "key" | "clock":
            return unreadable({"key": "auth"}.get(outcome, outcome))
        case "banned":
            return unreadable("throttled")
        case _:
            return AGAIN


# Nothing is expected to arrive in this time.
_BRIEF = dataclasses.replace(
    PATIENT, read=0.2, submit=0.2, read_deadline=0.3, submit_deadline=PATIENT.connect + 0.3
)
# 10001 is a parameter that makes no sense; every route may say so.
_BYBIT_CODES = {"submit": 110007, "cancel": 110001, "amend_protection": 10001, "read": 10001}
ADAPTERS: Mapping[type[Any], Adapter] = MappingProxyType(
    {
        BybitVenue: Adapter(
            connected=lambda: connected(rate_limits=False),
            hurry=lambda venue: be_patient(venue, _BRIEF),
            listed="BTCUSDT",
            routes={
                "submit": "order/create",
                "cancel": "order/cancel",
                "amend_protection": "position/trading-stop",
                "server_time": "market/time",
                "listing": "market/instruments-info",
                "account": "user/query-api",
                "settings": "position/list",
                "closed_bars": "market/kline",
                "position": "position/list",
                "balance": "account/wallet-balance",
                "quote": "market/tickers",
                "orders": "order/realtime",
                "query": "order/realtime",
                "fills": "execution/list",
            },
            codes={"refused": _BYBIT_CODES, "key": 10003, "clock": 10002, "new": 987_654},
            cells={
                ("submit", "refused"): refused("margin"),
                ("cancel", "refused"): refused("not_found"),
                ("amend_protection", "refused"): refused("other"),
                ("*", "refused"): unreadable("other"),
                ("listing", "refused"): NOT_LISTED,
                # An order is looked for in several lists; one that was refused is no answer.
                **{
                    ("query", outcome): unreadable()
                    for outcome in ("refused", "key", "clock", "banned")
                },
            },
        ),
    }
)


def page() -> str:
    """The page of the documentation, one pair of tables for each adapter."""
    return "\n".join([_HEAD, *(_tables(kind.name, one) for kind, one in ADAPTERS.items())])


_HEAD = """# What is made of a reply that is not as hoped

Each cell is a test against the local exchange (`pytest tests/live/test_conformance.py`), and this
page is written from the same cells: `python -m tests.live.conformance > docs/conformance.md`.

A change (an order, a cancel, stop and target of a position) is sent once, whatever happens. It is
called accepted or refused only where that is certain; everything else is in doubt, freezes the
symbol and is resolved by asking the venue. "Done" says what the exchange did with it. A read is
asked again where that may help, inside its deadline; a read that says nothing is never taken for
"nothing is there".

| cell | means |
|---|---|
| right | the answer is what the exchange's books say |
| in doubt | whether it was done is not known; [what is done then](live.md#what-happens-at-a-bar) |
| unreadable | nothing was learnt; what follows the colon is why |
| not listed | the venue says that there is no such symbol |"""


def _tables(name: str, adapter: Adapter) -> str:
    parts = [f"\n## {name.capitalize()}\n", _table(adapter, CHANGES, done=True), ""]
    return "\n".join([*parts, _table(adapter, READS, done=False)])


def _table(adapter: Adapter, operations: Iterable[str], *, done: bool) -> str:
    """Operations as columns; of reads those that say the same share one."""
    columns: dict[tuple[str, ...], list[str]] = {}
    for operation in operations:
        cells = tuple(adapter.cell(operation, outcome) for outcome in OUTCOMES)
        columns.setdefault(cells, []).append(f"`{operation}`")
    head = ["what happens", *(["done"] if done else []), *(", ".join(c) for c in columns.values())]
    rows = [head, ["---"] * len(head)]
    for index, outcome in enumerate(OUTCOMES.values()):
        truth = [["no", "yes"][outcome.done]] if done else []
        rows.append([outcome.says, *truth, *(cells[index] for cells in columns)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    print(page())

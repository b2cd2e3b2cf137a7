"""Money that moves while nothing runs: the comparison goes on where the process before ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import pytest

from live.journal import Journal
from live.reconcile.cash import CashBook
from live.trading.cash import CashWatch
from live.types import (
    Balance,
    Fill,
    FillKind,
    Flat,
    Held,
    MarginMode,
    Position,
    Quote,
    Side,
    UnreadableError,
)
from tests.live.harness import BTC, FLAT, LONG, SHORT, SYMBOL, Rig, trading

D = Decimal


def watch_of(rig: Rig) -> CashWatch:
    """One as a fresh process has it."""
    return CashWatch(rig.daemon.venue, rig.journal, [SYMBOL], rig.clock)


@pytest.mark.parametrize("amount", [D(-200), D(200)], ids=["out", "in"])
@pytest.mark.parametrize("held", [False, True], ids=["flat", "held"])
def test_money_that_moved_while_nothing_ran_is_found_once(amount: Decimal, held: bool) -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG if held else FLAT)
        assert await watch_of(rig).look() == ()
        rig.server.engine.deposit(amount)
        rig.server.advance(30 * 60_000)
        (found,) = await watch_of(rig).look()
        assert abs(found.equity - found.expected - amount) < 5
        assert await watch_of(rig).look() == ()
        assert len(rig.journal.adjustments()) == 1
        rig.server.engine.deposit(amount)
        assert await watch_of(rig).look()

    trading(test)


def test_trades_fees_funding_and_marks_of_the_time_between_explain_it() -> None:
    async def test(rig: Rig) -> None:
        assert await watch_of(rig).look() == ()
        await rig.bar(LONG)
        rig.server.engine.pay_funding(BTC, D("0.01"))
        rig.server.advance(20 * 60_000)
        await rig.bar(SHORT)
        rig.server.advance(20 * 60_000)
        before = rig.server.engine.equity()
        assert abs(before - 10_000) > 100  # more than what may be left unexplained
        cash = watch_of(rig)
        assert await cash.look() == ()
        rig.server.engine.deposit(D(-200))
        assert await cash.look()  # nothing was waited for

    trading(test)


def test_it_is_kept_at_the_first_look_and_then_hourly() -> None:
    async def test(rig: Rig) -> None:
        cash = watch_of(rig)
        kept = []
        for _ in range(5):
            await cash.look()
            kept.append(len(rig.journal.history(kind="cash_book")))
            rig.server.advance(20 * 60_000)
        assert kept == [1, 1, 1, 2, 2]

    trading(test)


# What cannot be said ------------------------------------------------------------------------------


class Account:
    """A venue of two symbols, everything settable."""

    def __init__(self) -> None:
        self.held: dict[str, Decimal] = {}
        self.equity = D(1000)
        self.told: dict[str, list[Fill]] = {}
        self.silent = False

    async def position(self, symbol: str) -> Position:
        quantity = self.held.get(symbol, D(0))
        price = D(100)
        return (
            Held(quantity, price, price, D(0), D(1), MarginMode.ISOLATED, None, 0)
            if quantity
            else Flat()
        )

    async def quote(self, symbol: str) -> Quote:
        return Quote(D(100), D(100), D(100), 0)

    async def balance(self) -> Balance:
        return Balance(self.equity, self.equity, None, "USDT", 0)

    async def fills(self, symbol: str, since_ms: int) -> list[Fill]:
        if self.silent:
            raise UnreadableError("too far back")
        return [one for one in self.told.get(symbol, []) if one.venue_time_ms >= since_ms]


class Clock:
    def __init__(self) -> None:
        self.time_ms = 10_000_000

    def now_ms(self) -> int:
        return self.time_ms

    async def sleep(self, seconds: float) -> None:
        self.time_ms += round(1000 * seconds)


def looks(
    account: Account, journal: Journal, clock: Clock, symbols: Iterable[str], count: int = 1
) -> list[Any]:
    """What a fresh process finds in so many looks."""
    cash = CashWatch(account, journal, tuple(symbols), clock)  # type: ignore[arg-type]
    found = []
    for _ in range(count):
        found += asyncio.run(cash.look())
        clock.time_ms += 60_000
    return found


@pytest.fixture
def journal() -> Journal:
    return Journal.open(None, account_id="1", strategy_id="t", now_ms=lambda: 0)


def reasons(journal: Journal) -> list[str]:
    return [row.body["reason"] for row in journal.history(kind="cash_unchecked")]


def fill(quantity: str, time_ms: int, price: str = "100") -> Fill:
    signed = D(quantity)
    return Fill(
        f"t{time_ms}", "", "", Side.of(signed), abs(signed), D(price), D(0), "USDT",
        FillKind.TRADE, time_ms,
    )  # fmt: skip


def test_a_symbol_that_is_new_counts_as_flat_before(journal: Journal) -> None:
    account, clock = Account(), Clock()
    assert looks(account, journal, clock, ["A"]) == []
    account.held["B"] = D(2)
    account.told["B"] = [fill("2", clock.time_ms, "90")]
    account.equity = D(1020)
    assert looks(account, journal, clock, ["A", "B"]) == []
    account.equity = D(1100)
    assert len(looks(account, journal, clock, ["A", "B"])) == 1
    assert reasons(journal) == []


def test_a_symbol_that_was_held_and_is_not_traded_now_is_told(journal: Journal) -> None:
    account, clock = Account(), Clock()
    account.held["B"] = D(2)
    assert looks(account, journal, clock, ["A", "B"]) == []
    account.equity = D(5000)
    assert looks(account, journal, clock, ["A"], 2) == []
    assert reasons(journal) == ["a symbol was held that is not traded now"]


def test_a_position_that_changed_without_a_fill_is_told(journal: Journal) -> None:
    account, clock = Account(), Clock()
    assert looks(account, journal, clock, ["A"]) == []
    account.held["A"], account.equity = D(2), D(5000)
    assert looks(account, journal, clock, ["A"], 20) == []
    assert reasons(journal) == ["positions changed without fills"]


def test_what_can_no_longer_be_read_is_told_and_not_waited_for_for_ever(journal: Journal) -> None:
    account, clock = Account(), Clock()
    assert looks(account, journal, clock, ["A"]) == []
    account.equity, account.silent = D(900), True
    cash = CashWatch(account, journal, ("A",), clock)  # type: ignore[arg-type]
    for _ in range(59):
        assert asyncio.run(cash.look()) == ()
    account.silent = False
    assert len(asyncio.run(cash.look())) == 1  # it was not given up yet
    account.silent, account.equity = True, D(800)
    assert looks(account, journal, clock, ["A"], 80) == []
    (reason,) = reasons(journal)
    assert "too far back" in reason


@pytest.mark.parametrize(
    "change",
    [{"expected": "much"}, {"expected": None}, {"at": []}, {"counted": [1]}, {"since_ms": None}],
    ids=str,
)
def test_what_was_kept_and_makes_no_sense_is_told(
    journal: Journal, change: Mapping[str, Any]
) -> None:
    account, clock = Account(), Clock()
    assert looks(account, journal, clock, ["A"]) == []
    (row,) = journal.history(kind="cash_book")
    journal.event("cash_book", None, {**row.body, **change})
    account.equity = D(900)
    assert looks(account, journal, clock, ["A"], 2) == []
    assert len(reasons(journal)) == 1


def test_a_book_that_has_not_begun_says_nothing() -> None:
    with pytest.raises(ValueError, match="not begun"):
        CashBook().plain()

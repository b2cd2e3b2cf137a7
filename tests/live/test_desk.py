"""The standing of an account: what all symbols share, and what outlives a restart."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from pathlib import Path

import pytest

from live.clock import VirtualClock
from live.exchange.opening import default_instrument
from live.journal import Journal
from live.risk import Latch, RiskConfig, TradingState
from live.trading.desk import Desk
from live.types import Balance, Flat, Quote, Snapshot

FIRST, SECOND = "BTC/USDT:USDT", "S001/USDT:USDT"
RISK = RiskConfig(daily_loss_limit=0.05, max_drawdown=0.05)


class Account:
    """A desk on a journal that is closed and opened again."""

    def __init__(self, path: Path) -> None:
        self.path, self.clock = path, VirtualClock(1_700_000_000_000)
        self.begin()

    def begin(self) -> None:
        self.journal = Journal.open(
            self.path, account_id="a", strategy_id="s", now_ms=self.clock.now_ms
        )
        self.desk = Desk(self.journal, RISK, (FIRST, SECOND), self.clock)

    def restart(self) -> None:
        self.journal.close()
        self.begin()

    def read(self, equity: str, symbol: str = FIRST) -> None:
        """Two readings, as many as a loss breaker wants."""
        for _ in range(2):
            self.clock.advance_to(self.clock.now_ms() + 3_000)
            now, money = self.clock.now_ms(), Decimal(equity)
            self.desk.read(
                Snapshot(
                    bar_open_ms=now // 60_000 * 60_000,
                    venue_time_ms=now,
                    received_monotonic_ns=now * 1_000_000,
                    instrument=dataclasses.replace(default_instrument(), symbol=symbol),
                    position=Flat(),
                    balance=Balance(money, money, None, "USDT", now),
                    quote=Quote(Decimal(1), Decimal(1), Decimal(1), now),
                )
            )


@pytest.fixture
def account(tmp_path: Path) -> Account:
    return Account(tmp_path / "a.db")


@pytest.mark.parametrize("cash", ["-1000", "1000"])
@pytest.mark.parametrize("restarted", [False, True])
def test_money_that_came_or_went_is_no_profit_and_no_loss(
    account: Account, cash: str, restarted: bool
) -> None:
    account.read("10000")
    moved = Decimal(10_000) + Decimal(cash)
    account.journal.adjust(FIRST, "cash", Decimal(0), Decimal(cash), {})
    assert account.desk.acknowledge("me") == 1
    if restarted:
        account.restart()
    account.read(str(moved))
    assert account.desk.state is TradingState.ACTIVE
    # Losses are measured from what is there now.
    account.read(str(moved - 400))
    assert account.desk.state is TradingState.ACTIVE
    account.read(str(moved - 600))
    assert account.desk.state is TradingState.HALTED


def test_a_breaker_closes_every_symbol_until_each_is_closed(account: Account) -> None:
    account.read("10000")
    account.read("9000")
    assert account.desk.flatten_reason(FIRST) == account.desk.flatten_reason(SECOND) == "daily_loss"
    account.desk.flattened(FIRST)
    assert account.desk.flatten_reason(FIRST) is None
    assert account.desk.flatten_reason(SECOND) == "daily_loss"


def test_a_latch_is_of_all_symbols_and_a_degradation_of_one(account: Account) -> None:
    account.desk.degrade("unreadable", SECOND)
    assert account.desk.standing_of(FIRST).state is TradingState.ACTIVE
    assert account.desk.standing_of(SECOND).state is TradingState.DEGRADED
    assert account.desk.state is TradingState.DEGRADED
    account.desk.recover("unreadable", SECOND)
    account.desk.reconciled(FIRST)
    assert account.desk.standing_of(SECOND).state is TradingState.DEGRADED
    account.desk.reconciled(SECOND)
    assert account.desk.state is TradingState.ACTIVE
    account.desk.degrade("stream")
    assert account.desk.standing_of(FIRST).state is TradingState.DEGRADED
    account.desk.latch(Latch(TradingState.REDUCING, "foreign", ""))
    account.restart()
    for symbol in (FIRST, SECOND):
        assert account.desk.standing_of(symbol).state is TradingState.REDUCING


def test_many_symbols_share_one_reading(account: Account) -> None:
    account.read("10000")
    before = account.journal.health.commits
    snapshot_time = account.clock.now_ms()
    account.clock.rewind(snapshot_time - 6_000)
    account.read("10000", SECOND)  # the same instants again
    assert account.journal.health.commits == before

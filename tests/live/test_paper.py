"""A paper account on the prices of a venue that is written down here."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jaxtrade.timeframe import TimeFrame
from live import config as configs
from live import runner
from live.clock import VirtualClock
from live.exchange.opening import instruments
from live.exchange.server import ExchangeServer
from live.journal.reading import JournalReader
from live.paper import PaperVenue
from live.paper.store import PaperFileError, left
from live.replay.filters import unfiltered
from live.replay.money import ReplayTerms
from live.trading.assembly import set_up
from live.types import (
    Bars,
    Bracket,
    Category,
    Definitive,
    Flat,
    Held,
    Instrument,
    Intent,
    IntentKind,
    Outcome,
    Quote,
    Role,
    Side,
    UnreadableError,
)
from live.venues.feed import BarFeed
from live.venues.symbols import joined
from tests.live import real_run
from tests.live.harness import HISTORY, ServerClock, exchange, minutes

BTC, ETH = "BTC/USDT:USDT", "ETH/USDT:USDT"
TERMS = ReplayTerms(leverage=5.0, transaction_fee=0.001)
BAR_MS = 60_000


class Market:
    """Prices and listings of two symbols.

    Attributes:
      bars: open, high, low, close, volume of every bar of a symbol. listed: by symbol.
    """

    name = "market"

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.bars = {BTC: [100.0, 100.0, 100.0, 100.0, 1.0], ETH: [10.0, 10.0, 10.0, 10.0, 1.0]}
        self.listed = {
            name: dataclasses.replace(unfiltered(TERMS, name), venue_symbol=joined(name))
            for name in self.bars
        }
        self.silent: set[str] = set()

    async def connect(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def instrument(self, symbol: str) -> Instrument:
        return self.listed[symbol]

    listing = instrument

    async def quote(self, symbol: str) -> Quote:
        if symbol in self.silent:
            raise UnreadableError(f"no quote of {symbol}")
        mark = Decimal(str(self.bars[symbol][3]))
        return Quote(mark, mark, mark, self.clock.now_ms())

    async def closed_bars(self, symbol: str, frame: str, count: int) -> Bars:
        newest = self.clock.now_ms() // BAR_MS * BAR_MS - BAR_MS
        times = np.arange(newest - (count - 1) * BAR_MS, newest + 1, BAR_MS)
        return Bars(frame, times, np.array([self.bars[symbol]] * count))

    def relist(self, symbol: str, **change: Any) -> None:
        self.listed[symbol] = dataclasses.replace(self.listed[symbol], **change)


def paper(
    test: Callable[[PaperVenue, Market], Awaitable[None]],
    folder: Path | None = None,
    symbols: tuple[str, ...] = (BTC,),
    traded: tuple[str, ...] = (),
    prepare: Callable[[Market], None] = lambda market: None,
) -> None:
    """Run a test with a paper venue whose symbols were read.

    Args:
      traded: what the venue was told that is; none = whichever are read.
      prepare: the market before anything is read.
    """

    async def run() -> None:
        clock = VirtualClock(600_000)
        market = Market(clock)
        prepare(market)
        venue = PaperVenue(
            market,  # type: ignore[arg-type]
            TERMS,
            clock,
            frame="1Minute",
            bar_ms=BAR_MS,
            folder=folder,
            symbols=traded,
        )
        await venue.connect()
        for symbol in symbols:
            await venue.instrument(symbol)
        await test(venue, market)

    asyncio.run(run())


_ids = iter(range(10**6))


def order(quantity: str, side: Side = Side.BUY, symbol: str = BTC, **more: Any) -> Intent:
    """A market order with an id of its own."""
    values: dict[str, Any] = {"kind": IntentKind.MARKET, "role": Role.ENTRY, **more}
    return Intent(
        symbol=symbol,
        side=side,
        quantity=Decimal(quantity),
        reduce_only=values["role"] is Role.REDUCE,
        reason="test",
        client_id=f"jtabcd{next(_ids):013d}e",
        **values,
    )


def category(outcome: Outcome) -> Category | None:
    """Why an order was refused."""
    assert isinstance(outcome, Definitive)
    return outcome.category


# Filters ------------------------------------------------------------------------------------------


def test_the_account_goes_by_the_filters_that_were_read_last() -> None:
    async def test(venue: PaperVenue, market: Market) -> None:
        assert category(await venue.submit(order("0.5"))) is None
        market.relist(BTC, min_quantity=Decimal(1), quantity_step=Decimal("0.5"))
        assert category(await venue.submit(order("0.5"))) is None  # nobody has read it yet
        assert (await venue.listing(BTC)).min_quantity == 1
        assert category(await venue.submit(order("0.5"))) is Category.MINIMUM
        assert category(await venue.submit(order("1.25"))) is Category.PRECISION
        market.relist(BTC, min_quantity=Decimal("0.1"))
        assert (await venue.instrument(BTC)).min_quantity == Decimal("0.1")
        assert category(await venue.submit(order("0.5"))) is None

    paper(test)


@pytest.mark.parametrize(
    ("status", "entry", "exit_"),
    [
        ("closed", Category.HALTED, Category.HALTED),
        ("reduce_only", Category.HALTED, None),
    ],
)
def test_a_market_that_does_not_trade_takes_no_order(
    status: str, entry: Category | None, exit_: Category | None
) -> None:
    async def test(venue: PaperVenue, market: Market) -> None:
        await venue.submit(order("1"))
        market.relist(BTC, status=status)
        await venue.listing(BTC)
        assert category(await venue.submit(order("1"))) is entry
        assert category(await venue.submit(order("1", Side.SELL, role=Role.REDUCE))) is exit_

    paper(test)


def test_a_position_is_not_rounded_to_a_step_that_came_later(tmp_path: Path) -> None:
    async def grown(venue: PaperVenue, market: Market) -> None:
        market.relist(BTC, quantity_step=Decimal("0.001"))
        await venue.listing(BTC)
        await venue.submit(order("1.234"))
        market.relist(BTC, quantity_step=Decimal("0.1"), min_quantity=Decimal("0.1"))
        await venue.listing(BTC)
        await venue.submit(order("1", Side.SELL, role=Role.REDUCE))
        held = await venue.position(BTC)
        assert isinstance(held, Held)
        assert held.quantity == Decimal("0.234")
        market.relist(BTC, min_quantity=Decimal(1))
        await venue.listing(BTC)
        held = await venue.position(BTC)
        assert isinstance(held, Held)
        assert held.residue
        await venue.submit(order("1", Side.SELL, role=Role.REDUCE))  # is cut to what is held
        assert isinstance(await venue.position(BTC), Flat)

    paper(grown, tmp_path)


# Several symbols --------------------------------------------------------------------------------

BOTH = (BTC, ETH)


async def equity(venue: PaperVenue) -> Decimal:
    return (await venue.balance()).equity


def test_symbols_share_the_cash_and_nothing_else() -> None:
    async def test(venue: PaperVenue, market: Market) -> None:
        assert await equity(venue) == 10_000
        await venue.submit(order("100"))  # 10 000 at leverage 5: 2 000, and a fee of 10
        after = await venue.balance()
        assert (after.equity, after.available) == (9990, 7990)
        await venue.submit(order("500", Side.SELL, ETH, bracket=Bracket(Decimal(11), None)))
        after = await venue.balance()
        assert (after.equity, after.available) == (9985, 6985)
        assert after.maintenance_margin == 60  # 0.4 % of both
        market.bars[BTC][3], market.bars[ETH][3] = 101.0, 9.5
        assert await equity(venue) == 9985 + 100 + 250
        long, short = await venue.position(BTC), await venue.position(ETH)
        assert isinstance(long, Held)
        assert isinstance(short, Held)
        assert (long.quantity, short.quantity) == (100, -500)
        assert (long.stop_price, short.stop_price) == (None, 11)
        assert len(await venue.orders(ETH)) == 1
        assert await venue.orders(BTC) == ()
        assert [len(await venue.fills(name, 0)) for name in BOTH] == [1, 1]
        # One symbol alone pays for more than what the other left free.
        assert category(await venue.submit(order("10000", symbol=BTC))) is Category.MARGIN

    paper(test, symbols=BOTH)


def test_bars_of_a_symbol_act_on_its_own_position() -> None:
    async def test(venue: PaperVenue, market: Market) -> None:
        await venue.submit(order("10", bracket=Bracket(Decimal(95), Decimal(120))))
        await venue.submit(order("100", symbol=ETH, bracket=Bracket(Decimal(9), Decimal(12))))
        before = await equity(venue)
        market.clock.advance_to(660_000)
        market.bars[ETH] = [10.0, 10.0, 8.5, 10.0, 1.0]
        assert isinstance(await venue.position(ETH), Flat)
        assert isinstance(await venue.position(BTC), Held)
        (fill,) = await venue.fills(ETH, 650_000)
        assert (fill.role, fill.price, fill.client_id) == (Role.STOP, 9, "")
        assert await equity(venue) == before - 100 - fill.fee

    paper(test, symbols=BOTH)


def test_an_account_of_several_symbols_outlives_its_process(tmp_path: Path) -> None:
    kept: list[Any] = []

    async def first(venue: PaperVenue, market: Market) -> None:
        market.relist(ETH, quantity_step=Decimal("0.001"))
        await venue.listing(ETH)
        await venue.submit(order("100.0"))
        await venue.submit(order("50.123", Side.SELL, ETH))
        await venue.submit(order("10", Side.SELL, role=Role.REDUCE))
        kept.extend([await venue.balance(), *[await venue.position(name) for name in BOTH]])

    async def again(venue: PaperVenue, market: Market) -> None:
        found = [await venue.balance(), *[await venue.position(name) for name in BOTH]]
        assert found == kept
        assert [len(await venue.fills(name, 0)) for name in BOTH] == [2, 1]
        await venue.submit(order("1", Side.SELL, ETH))
        kept[0] = await venue.balance()

    async def grown(venue: PaperVenue, market: Market) -> None:
        assert await venue.balance() == kept[0]
        held = await venue.position(ETH)
        assert isinstance(held, Held)
        assert held.quantity == Decimal("-51.123")

    paper(first, tmp_path, BOTH)
    paper(again, tmp_path, BOTH)  # the one that was written last is read first
    larger = Decimal("0.1")
    paper(
        grown,
        tmp_path,
        BOTH[::-1],
        prepare=lambda market: market.relist(ETH, quantity_step=larger),
    )


def test_a_position_in_a_symbol_that_is_not_traded_now_is_refused(tmp_path: Path) -> None:
    async def entered(venue: PaperVenue, market: Market) -> None:
        await venue.submit(order("1"))
        await venue.submit(order("1", symbol=ETH))
        await venue.submit(order("1", Side.SELL, ETH, role=Role.REDUCE))

    async def nothing(venue: PaperVenue, market: Market) -> None:
        assert await equity(venue) < 10_000

    paper(entered, tmp_path, BOTH)
    with pytest.raises(PaperFileError, match=f"holds {BTC}.*symbols"):
        paper(nothing, tmp_path, (ETH,), traded=(ETH,))
    paper(nothing, tmp_path, (BTC,), traded=(BTC,))  # nothing is held of the other


def test_a_symbol_that_was_not_read_is_unreadable() -> None:
    async def test(venue: PaperVenue, market: Market) -> None:
        for asked in (venue.position, venue.orders):
            with pytest.raises(UnreadableError, match="ETH"):
                await asked(ETH)

    paper(test)

    async def none(venue: PaperVenue, market: Market) -> None:
        with pytest.raises(UnreadableError, match="no symbol"):
            await venue.balance()

    paper(none, symbols=())


def test_equity_waits_for_a_mark_of_everything_that_is_held() -> None:
    async def test(venue: PaperVenue, market: Market) -> None:
        await venue.submit(order("1", symbol=ETH))
        market.silent.add(ETH)
        with pytest.raises(UnreadableError, match="ETH"):
            await venue.balance()
        market.silent.clear()
        known = await venue.balance()
        market.silent |= {BTC, ETH}
        assert await venue.balance() == known  # the mark before

    paper(test, symbols=BOTH)


def test_a_paper_run_of_several_symbols_reads_the_market_as_any_other(tmp_path: Path) -> None:
    async def run() -> None:
        server = exchange(
            {one.venue_symbol: minutes(HISTORY + 60) for one in instruments(2)},
            HISTORY,
            instruments=instruments(2),
        )
        async with server.running() as url:
            names = [one.venue_symbol for one in instruments(2)]
            given = {
                "venue.base_url": url,
                "runner.symbols": names,
                "runner.state_dir": str(tmp_path / "state"),
                "env.leverage": "3",
                "env.time_frames": "1min",
                "env.execute_on": "1min",
            }
            config = configs.load(None, given, {})
            venue = runner.venue_of(config, {}, ServerClock(server))  # type: ignore[arg-type]
            await venue.connect()
            try:
                listed = [await set_up(venue, config.env_of(name)) for name in config.symbols]
                symbols = [one.instrument.symbol for one in listed]
                for symbol in symbols:
                    wanted = order("0.01", symbol=symbol)
                    assert category(await venue.submit(wanted)) is None
                assert isinstance(venue, PaperVenue)
                assert isinstance(venue.market, BarFeed)  # together, and with a stream of bars
                for symbol in symbols:
                    assert isinstance(await venue.position(symbol), Held)
                needs = SimpleNamespace(frames=[TimeFrame.parse("1min")], needed=lambda name: 8)
                one = SimpleNamespace(symbol=symbols[0], trader=SimpleNamespace(observer=needs))
                asked = len(server.requests("market/kline"))
                daemon: Any = SimpleNamespace(symbols=[one])
                await runner.prepare(venue, daemon)
                assert len(server.requests("market/kline")) > asked
                assert (await venue.balance()).equity < 10_000
            finally:
                await venue.close()
        assert not server.requests("order/*")
        assert len(list((tmp_path / "state").glob("paper-*.json"))) == 2

    asyncio.run(run())


def test_a_run_of_several_symbols_has_one_wallet_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_run.quicken(monkeypatch)
    traded, folder = instruments(2), tmp_path / "state"
    server = ExchangeServer(speed=real_run.SPEED, instruments=traded)
    with server.threaded():
        for _ in range(2):
            given = real_run.settings(server, folder)
            given |= {"runner.mode": "paper"}
            given |= {"runner.symbols": [one.venue_symbol for one in traded]}
            assert asyncio.run(runner.run(configs.load(None, given, {}))) == 0
    (path,) = folder.glob("*.db")
    journal = JournalReader.view(path)
    try:
        assert all(journal.position(one.symbol) > 0 for one in traded)
        assert not journal.adjustments()
        assert len(journal.runs()) == 2
    finally:
        journal.close()
    (first, second) = left(folder)
    assert first.held
    assert second.held
    assert second.written > first.written
    assert 0 < second.cash < 2_000  # each used half of the equity

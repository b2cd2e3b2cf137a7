"""Several symbols of one account: each on its own, limits and latches for all."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from live.risk import TradingState
from live.trading.turns import Turns
from live.types import UnreadableError
from tests.live.harness import FLAT, LONG, SHORT, Rig, trading

NAMES = ("BTCUSDT", "S001USDT", "S002USDT")


def positions(rig: Rig) -> list[Decimal]:
    return [rig.server.engine.position(name) for name in NAMES]


def test_every_symbol_trades_its_share() -> None:
    async def test(rig: Rig) -> None:
        # What remembers nothing is compiled once.
        assert len({id(loop.policy) for loop in rig.daemon.symbols}) == 1
        await rig.bars([LONG, SHORT, FLAT])
        first, second, third = positions(rig)
        assert first > 0 > second
        assert third == 0
        assert rig.desk.balance is not None
        for loop, quantity in zip(rig.daemon.symbols, (first, second, third), strict=True):
            snapshot = await loop.reconcile()
            assert snapshot is not None
            assert rig.journal.position(loop.symbol) == quantity
            # A third of the account at three times leverage, each.
            used = abs(quantity) * snapshot.quote.mark / rig.desk.balance.equity
            assert used == 0 or Decimal("0.9") < used < Decimal("1.01")
        rig.check()

    trading(test, symbols=3)


def test_what_one_symbol_cannot_read_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(rig: Rig) -> None:
        venue = rig.daemon.venue
        read = venue.closed_bars

        async def gone(symbol: str, *rest: Any) -> Any:
            if symbol.startswith("S001"):
                raise UnreadableError("bars: none today")
            return await read(symbol, *rest)

        with monkeypatch.context() as patched:
            patched.setattr(venue, "closed_bars", gone)
            await rig.bars([LONG, LONG, LONG])
        first, second, third = positions(rig)
        assert first > 0
        assert third > 0
        assert second == 0
        states = [rig.desk.standing_of(loop.symbol).state for loop in rig.daemon.symbols]
        assert states == [TradingState.ACTIVE, TradingState.DEGRADED, TradingState.ACTIVE]
        await rig.daemon.symbols[1].reconcile()
        assert rig.desk.state is TradingState.ACTIVE
        await rig.bars([LONG, LONG, LONG])
        assert all(quantity > 0 for quantity in positions(rig))

    trading(test, symbols=3)


def test_a_halt_is_for_all_and_a_flatten_closes_all() -> None:
    async def test(rig: Rig) -> None:
        await rig.bars([LONG, SHORT, LONG])
        assert all(positions(rig))
        result = await rig.daemon.command("flatten", "enough")
        assert result["flat"]
        assert not any(positions(rig))
        acted = await rig.bars([LONG, LONG, LONG])
        assert [one.refused for one in acted] == ["state"] * 3
        assert not any(positions(rig))

    trading(test, symbols=3)


def test_the_gross_limit_counts_every_symbol() -> None:
    async def test(rig: Rig) -> None:
        await rig.bars([LONG, FLAT, FLAT])
        acted = await rig.bars([LONG, LONG, FLAT])
        assert acted[1].refused == "gross_notional"
        assert positions(rig)[1] == 0

    trading(test, symbols=3, settings={"risk.max_gross_notional": 15_000})


def test_exits_leave_before_entries() -> None:
    """The entries of two symbols wait for the exit of a third, which comes last."""

    async def test(rig: Rig) -> None:
        await rig.bars([FLAT, FLAT, LONG])
        await rig.bars([LONG, LONG, FLAT])
        sent = [row.body["client_id"][-1] for row in rig.journal.history(kind="sent")]
        assert [role for role in sent if role in "ex"] == ["e", "x", "e", "e"]

    trading(test, symbols=3)


def test_an_entry_waits_for_the_others_and_not_for_ever() -> None:
    async def test() -> None:
        turns = Turns(("a", "b"), patience=30)
        turns.begin(60)
        turns.begin(0)  # a bar that is over begins nothing
        waiting = asyncio.ensure_future(turns.entry("a", 60))
        for said in (("b", 0), ("a", 60)):
            turns.passed(*said)
            await asyncio.sleep(0)
            assert not waiting.done()
        turns.passed("b", 60)
        await asyncio.wait_for(waiting, 15)
        impatient = Turns(("a", "b"), patience=0.01)
        impatient.begin(0)
        await asyncio.wait_for(impatient.entry("a", 0), 15)  # b says nothing

    asyncio.run(test())

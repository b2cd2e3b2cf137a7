"""Many symbols are set up at once, and a start that finds everything as wanted changes nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from live.config import LiveConfig, load
from live.exchange.opening import instruments
from live.exchange.server import ExchangeServer
from live.journal.checking import copy_path
from live.operations.doctor_rows import Verdict
from live.operations.preflight import _copy
from live.trading.assembly import set_up_all
from live.types import Configured, MarginMode, PositionMode
from live.venues.bybit import BybitVenue
from tests.live.bybit_server import run
from tests.live.journaling import opened

LISTED = instruments(25)
WANTED = Configured(Decimal(2), MarginMode.ISOLATED, PositionMode.ONE_WAY)


def config_of(number: int) -> LiveConfig:
    names = [one.venue_symbol for one in LISTED[:number]]
    given = {
        "runner.mode": "demo",
        "runner.symbols": names,
        "env.symbol": names[0],
        "env.time_frames": "1min",
        "env.execute_on": "1min",
        "env.window_sizes": "8",
        "env.leverage": "2",
        "policy.baseline": "always_flat",
    }
    return load(None, given, {})


def test_leverage_is_sent_once_for_each_symbol_and_by_no_later_start() -> None:
    async def scenario(venue: BybitVenue, server: ExchangeServer) -> None:
        config = config_of(25)
        for _ in range(2):
            listed = await set_up_all(venue, config)
            assert list(listed) == list(config.symbols)
            assert {one.settings for one in listed.values()} == {WANTED}
        assert len(server.requests("position/set-leverage")) == 25
        assert len(server.requests("account/fee-rate")) == 1
        assert not server.throttled()

    run(scenario, instruments=LISTED, rate_limits=True)


@dataclass
class Venue:
    """Notes who is being set up; one symbol is refused."""

    refused: str
    running: set[str] = field(default_factory=set)
    most: int = 0
    begun: list[str] = field(default_factory=list)

    async def instrument(self, symbol: str) -> Any:
        self.begun.append(symbol)
        self.running.add(symbol)
        self.most = max(self.most, len(self.running))
        try:
            for _ in range(5):
                await asyncio.sleep(0)
            if symbol == self.refused:
                raise ValueError(f"{symbol} does not trade")
        finally:
            self.running.discard(symbol)
        return next(one for one in LISTED if one.venue_symbol == symbol)

    async def configure(self, *_: object, **__: object) -> Configured:
        return WANTED


@pytest.mark.parametrize("number", [0, 7, 24])
def test_a_symbol_that_is_refused_ends_the_others(number: int) -> None:
    config = config_of(25)
    venue = Venue(config.env_of(config.symbols[number]).symbol)

    async def scenario() -> None:
        with pytest.raises(ValueError, match="does not trade"):
            await set_up_all(venue, config)  # type: ignore[arg-type]  # what is used of a venue
        assert not venue.running and venue.most <= 4
        assert len(venue.begun) <= number + 8

    asyncio.run(scenario())


def test_the_doctor_says_when_a_copy_is_of_no_use(tmp_path: Path) -> None:
    path = tmp_path / "account.db"
    opened(path).close()
    copy = copy_path(path)
    assert not list(_copy(copy))
    opened(path).close()
    assert [row.verdict for row in _copy(copy)] == [Verdict.OK]
    copy.write_bytes(copy.read_bytes().replace(b"create{}", b"craete{}"))
    (row,) = _copy(copy)
    assert row.verdict is Verdict.WARN and f"remove {copy}" in row.fix

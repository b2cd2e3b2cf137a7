"""Bars in a row with everything that can go wrong, drawn from a seed; the ledger after every one.

`python -m live.bench storm` does it for ten thousand.
"""

from __future__ import annotations

import asyncio

import pytest

from live.bench.mishaps import DEEDS, MESSAGES
from live.bench.storm import BARE_MS, run_storm


def test_a_calm_and_a_storm_of_a_few_bars() -> None:
    calm = asyncio.run(run_storm(0, 10, rate=0.0))
    assert not calm.broken
    assert not calm.happened
    assert calm.ledger.orders
    storm = asyncio.run(run_storm(0, 15))
    assert not storm.broken, storm.broken
    assert storm.happened


def test_what_does_not_hold_is_seen() -> None:
    found = asyncio.run(run_storm(0, 1, rate=0.0))
    found.ledger.traded += 1
    found._check()
    assert any("I2" in one for one in found.broken)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_many_bars_of_a_storm(seed: int) -> None:
    storm = asyncio.run(run_storm(seed, 250))
    assert not storm.broken, storm.broken
    # Enough went wrong, of most kinds, and it traded all the same.
    assert sum(storm.happened.values()) > 60
    assert len(storm.happened) > (len(DEEDS) + len(MESSAGES)) // 2
    assert len(storm.ledger.orders) > 50
    assert max(storm.bare_ms, default=0) <= BARE_MS

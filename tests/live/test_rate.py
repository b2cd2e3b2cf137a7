"""Rate limits: never more than the venue allows, a reserve for exits, headers and bans."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live.clock import VirtualClock
from live.venues.rate import Bucket, Lane, Limit, Limiter, RateConfig, RateLimitedError

NONE_KEPT = RateConfig(reserve_fraction=0.0)


def _times(bucket: Bucket, lane: Lane, until: float, pauses: list[float]) -> list[float]:
    """Instants at which requests pass that come as fast as they may, after some pauses."""
    now, passed = 0.0, []
    for pause in [*pauses, *[0.0] * 200]:
        now += pause
        now += bucket.wait(lane, now)
        if now > until:
            break
        bucket.take(now)
        passed.append(now)
    return passed


@settings(max_examples=80, deadline=None)
@given(
    requests=st.integers(1, 30),
    seconds=st.floats(0.5, 10),
    share=st.floats(0.05, 1),
    pauses=st.lists(st.floats(0, 5), max_size=20),
)
def test_no_window_ever_holds_more_requests_than_the_venue_allows(requests, seconds, share, pauses):
    config = RateConfig(reserve_fraction=0.0, share_fraction=share)
    bucket = Bucket(Limit(requests, seconds), config, 0.0)
    passed = _times(bucket, Lane.RESERVED, 5 * seconds, pauses)
    allowed = max(requests * share, 1.0)
    for i, start in enumerate(passed):
        within = sum(1 for time in passed[i:] if time < start + seconds * (1 - 1e-9))
        # A limit of less than two lets one through at once and refills the next.
        assert within <= max(allowed, 2) + 1e-6


def test_a_small_limit_still_lets_requests_of_both_lanes_through():
    bucket = Bucket(Limit(1, 1.0), RateConfig(), 0.0)
    assert bucket.wait(Lane.NORMAL, 0.0) == 0
    bucket.take(0.0)
    assert 0 < bucket.wait(Lane.NORMAL, 0.0) <= 1.0


def test_entries_cannot_use_the_reserve():
    bucket = Bucket(Limit(20), RateConfig(reserve_fraction=0.2), 0.0)
    entries = 0
    while bucket.wait(Lane.NORMAL, 0.0) == 0:
        bucket.take(0.0)
        entries += 1
    exits = 0
    while bucket.wait(Lane.RESERVED, 0.0) == 0:
        bucket.take(0.0)
        exits += 1
    assert (entries, exits) == (8, 2)


def test_a_header_that_leaves_less_counts_and_one_that_leaves_more_does_not():
    bucket = Bucket(Limit(20), NONE_KEPT, 0.0)
    bucket.tell(0.0, remaining=1, requests=None, reset=None)
    bucket.take(0.0)
    assert bucket.wait(Lane.RESERVED, 0.0) > 0
    bucket.tell(0.0, remaining=10, requests=None, reset=None)
    assert bucket.wait(Lane.RESERVED, 0.0) > 0


def test_an_empty_window_is_waited_for():
    bucket = Bucket(Limit(10), NONE_KEPT, 0.0)
    bucket.tell(0.0, remaining=0, requests=10, reset=3.0)
    assert bucket.wait(Lane.RESERVED, 0.0) == pytest.approx(3.0)
    assert bucket.wait(Lane.RESERVED, 3.0) == 0


@pytest.mark.parametrize("remaining", [math.nan, -1.0, math.inf])
def test_a_header_that_makes_no_sense_changes_nothing(remaining):
    bucket = Bucket(Limit(10), NONE_KEPT, 0.0)
    bucket.tell(0.0, remaining=remaining, requests=math.nan, reset=None)
    assert bucket.wait(Lane.RESERVED, 0.0) == 0


def test_a_wait_that_is_too_long_is_refused_at_once():
    async def scenario():
        clock = VirtualClock(0)
        limiter = Limiter({"a": Limit(2, 10.0)}, NONE_KEPT, clock)
        await limiter.acquire(["a"], lane=Lane.NORMAL, within=0)
        with pytest.raises(RateLimitedError) as refused:
            await limiter.acquire(["a"], lane=Lane.NORMAL, within=1)
        assert 1 < refused.value.retry_after <= 10
        assert clock.sleepers == 0

    asyncio.run(scenario())


def test_a_short_wait_is_waited():
    async def scenario():
        clock = VirtualClock(0)
        limiter = Limiter({"a": Limit(2, 10.0), "b": Limit(100)}, NONE_KEPT, clock)
        await limiter.acquire(["a", "b"], lane=Lane.NORMAL, within=0)
        waiting = asyncio.ensure_future(limiter.acquire(["a", "b"], lane=Lane.NORMAL, within=20))
        await asyncio.sleep(0)
        assert not waiting.done()
        await clock.run_until(11_000)
        await waiting

    asyncio.run(scenario())


def test_a_ban_stops_everything_but_the_reserved_lane_until_it_ends():
    async def scenario():
        clock = VirtualClock(1_000)
        limiter = Limiter({"a": Limit(100)}, RateConfig(), clock)
        limiter.ban("too many", until_ms=61_000)
        assert limiter.banned == "too many"
        with pytest.raises(RateLimitedError, match="too many"):
            await limiter.acquire(["a"], lane=Lane.NORMAL, within=5)
        await limiter.acquire(["a"], lane=Lane.RESERVED, within=0)
        clock.advance_to(61_001)
        assert limiter.banned is None
        await limiter.acquire(["a"], lane=Lane.NORMAL, within=0)

    asyncio.run(scenario())


def test_a_ban_without_a_time_lasts_as_configured():
    clock = VirtualClock(0)
    limiter = Limiter({}, RateConfig(ban_seconds=5), clock)
    limiter.ban("no time given")
    clock.advance_to(4_000)
    assert limiter.banned
    clock.advance_to(6_000)
    assert limiter.banned is None


@pytest.mark.parametrize(
    "values",
    [
        {"reserve_fraction": 1.0},
        {"reserve_fraction": math.nan},
        {"share_fraction": 0.0},
        {"share_fraction": math.nan},
        {"ban_seconds": math.inf},
    ],
)
def test_a_senseless_configuration_is_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        RateConfig(**values)


@pytest.mark.parametrize("values", [(0, 1.0), (math.nan, 1.0), (1, 0.0), (1, math.inf)])
def test_a_senseless_limit_is_refused(values):
    with pytest.raises(ValueError, match="rate limit"):
        Limit(*values)

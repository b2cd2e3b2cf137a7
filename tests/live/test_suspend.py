"""A daemon that was stopped and goes on: nothing is done about a bar that is over by then.

The process is stopped for real (SIGSTOP), for more than a bar, while the exchange goes on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from live.exchange.book import Order
from live.exchange.server import ExchangeServer
from tests.live.crash_work import MINUTE
from tests.live.suspend_work import DECIDING, PacedClock, PacedLife, arguments

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "SIGSTOP"), reason="this system cannot stop a process"
)

SYMBOL = "BTCUSDT"
SPEED = 15.0  # a bar in four seconds
BAR_DEADLINE_MS, STOP_DEADLINE_MS = 30_000, 60_000
PATIENCE = 90.0
# What is a matter of real time must not depend on how fast the exchange's runs.
SETTINGS = {
    "runner.bar_deadline": "30",
    "runner.intent_ttl_seconds": "20",
    "runner.stop_deadline_seconds": "60",
    "risk.snapshot_age_seconds": "600",
}


@dataclass
class Stopped:
    """A daemon's process and the exchange it trades on."""

    server: ExchangeServer
    life: PacedLife
    process: subprocess.Popen[bytes]

    @property
    def now_ms(self) -> int:
        return self.server.clock.now_ms()

    @property
    def entries(self) -> list[Order]:
        """The daemon's market orders."""
        return [order for order in self.server.engine.orders(SYMBOL) if order.client_id]

    @property
    def opened(self) -> int:
        """How many of them opened something."""
        return sum(not order.reduce_only for order in self.entries)

    def wait(self, until: Callable[[], bool], what: str) -> None:
        """Wait for something to become true."""
        end = time.monotonic() + PATIENCE
        while not until():
            assert time.monotonic() < end, f"not within {PATIENCE:g} s: {what}"
            assert self.process.poll() is None, self.words()
            time.sleep(0.01)

    def words(self) -> str:
        """What the process wrote."""
        return self.life.file("errors").read_text()[-2000:]

    @property
    def state(self) -> str:
        """Of the process, as the system calls it."""
        text = Path(f"/proc/{self.process.pid}/stat").read_text()
        return text.rpartition(")")[2].split()[0]


@contextmanager
def living(environment: str, stop_at: str | None) -> Iterator[Stopped]:
    """A daemon at an exchange that does not wait; it turns its position at every bar."""
    with tempfile.TemporaryDirectory() as folder:
        server = ExchangeServer(rate_limits=False)
        began, start_ms = time.monotonic(), server.engine.now_ms
        server.clock = PacedClock(start_ms, began, SPEED)
        with server.threaded() as url:
            life = PacedLife(
                environment=environment,
                crash_at=None,
                folder=folder,
                url=url,
                stream_url=server.stream_url,
                api_key=server.api_key,
                api_secret=server.api_secret,
                start_ms=start_ms,
                began=began,
                script=None,
                first_bar_ms=start_ms,
                steps=5,
                settings=SETTINGS,
                speed=SPEED,
                stop_at=stop_at,
                stop_after=1,
            )
            variables = {
                **os.environ,
                "JAX_PLATFORMS": "cpu",
                "PYTHONPATH": os.pathsep.join(sys.path),
                "PYTHONWARNINGS": "ignore",
            }
            with life.file("errors").open("wb") as errors:
                process = subprocess.Popen(
                    arguments(life), stdout=errors, stderr=errors, env=variables
                )
            try:
                yield Stopped(server, life, process)
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()


# Where it is when it is stopped.
PLACES = {
    "waiting": None,  # between two bars
    "deciding": DECIDING,
    "decided": "journal.decide.after",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "environment"),
    [
        ("waiting", "levels"),
        ("waiting", "brackets"),
        ("deciding", "levels"),
        ("decided", "brackets"),
    ],
)
def test_a_stopped_process_does_nothing_about_a_bar_that_is_over(
    environment: str, place: str
) -> None:
    with living(environment, PLACES[place]) as daemon:
        engine = daemon.server.engine
        if place == "waiting":
            daemon.wait(lambda: bool(engine.position(SYMBOL)), "an entry")
            daemon.wait(lambda: daemon.now_ms % MINUTE > 35_000, "the middle of a bar")
            os.kill(daemon.process.pid, signal.SIGSTOP)
        daemon.wait(lambda: daemon.state == "T", "the stop")
        stopped_ms = daemon.now_ms
        before, opened = daemon.entries, daemon.opened
        held = engine.position(SYMBOL)
        assert held
        assert engine.bracket(SYMBOL).stop_price is not None
        # Over the end of the bar and the one after; too late then for the newest of them as well.
        end_ms = (stopped_ms // MINUTE + 2) * MINUTE + BAR_DEADLINE_MS + 5_000
        daemon.wait(lambda: daemon.now_ms > end_ms, "two bars to pass")
        assert daemon.entries == before
        woken_ms = daemon.now_ms
        os.kill(daemon.process.pid, signal.SIGCONT)
        # What is left of the time may reduce, on the newest bar; the next one opens.
        next_ms = (woken_ms // MINUTE + 1) * MINUTE
        daemon.wait(lambda: daemon.opened > opened, "the next entry")
        assert daemon.process.wait(PATIENCE) == 0, daemon.words()
        told = daemon.life.report()
        after = [order for order in daemon.entries if order not in before]
        (first, *_) = (order for order in after if not order.reduce_only)
        assert next_ms <= first.created_ms <= next_ms + BAR_DEADLINE_MS
        # Nothing was decided about the bars that were over by then, and nothing opened; what had
        # been decided already may still reduce.
        newest_ms = woken_ms // MINUTE * MINUTE - MINUTE
        stale = [order for order in after if told["sent"][order.client_id] < newest_ms]
        assert all(order.reduce_only for order in stale)
        assert not stale or place == "decided"
        check_ledger(daemon, told)


def check_ledger(daemon: Stopped, told: Mapping[str, Any]) -> None:
    """One order per intent, journal = venue, a stop, nothing that stands."""
    engine = daemon.server.engine
    sent = [order.client_id for order in daemon.entries]
    assert len(sent) == len(set(sent))
    assert set(sent) <= set(told["sent"])
    assert Decimal(told["position"]) == engine.position(SYMBOL)
    assert sorted(told["trades"]) == sorted(e.execution_id for e in engine.executions(SYMBOL))
    assert (told["unresolved"], told["latches"], told["state"]) == ([], [], "ACTIVE")
    assert engine.bracket(SYMBOL).stop_price is not None
    for gap in engine.protection_gaps():
        end_ms = daemon.now_ms if gap.end_ms is None else gap.end_ms
        assert end_ms - gap.start_ms <= STOP_DEADLINE_MS

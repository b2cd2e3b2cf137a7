"""Lives of a daemon for `test_crash`: a nursery that imports once and forks one process per life.

Started as a program it reads one life per line from standard input (JSON, the fields of `Life`) and
answers each with a line when its process has ended: the signal or exit code. What a life did is in
its report, what it came by in its log; both outlast a SIGKILL.
"""

from __future__ import annotations

import asyncio
import dataclasses
import faulthandler
import itertools
import json
import mmap
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

from live.clock import VirtualClock
from live.exchange.clock import ExchangeClock

MINUTE = 60_000
LONG, FLAT, SHORT = 1, 0, -1
# Sleeps beyond this are left only after what is under way had time to arrive, seconds.
_LONG_SLEEP, _BREATH = 5.0, 0.05
LIFE_SECONDS = 30

ENVIRONMENTS: Mapping[str, Mapping[str, str]] = {
    "levels": {
        "env.name": "BybitFuturesTradingEnv",
        "env.action_levels": "[-0.5, 0, 0.5]",
        "env.equity_buffer": "0.02",
        "env.disaster_stop_fraction": "0.02",
    },
    "brackets": {
        "env.name": "BybitFuturesSLTPTradingEnv",
        "env.stoploss_levels": "[-0.04]",
        "env.takeprofit_levels": "[0.08]",
        "env.include_close_action": "true",
        "env.trade_mode": "quantity",
        "env.quantity_per_trade": "0.05",
    },
}
# Side wanted -> action, by environment.
ACTIONS = {
    "levels": {SHORT: 0, FLAT: 1, LONG: 2},
    "brackets": {FLAT: 1, LONG: 2, SHORT: 3},  # 0 holds
}


class SharedClock(ExchangeClock):
    """Time of the exchange as several processes see it: real time, and jumps kept in a file.

    Whoever sleeps jumps ahead instead, so that minutes without events take no time.

    Args:
      path: of the jumps, 8 bytes. start_ms: time at ``began``, seconds of the machine's monotonic
        clock, which all processes share.
    """

    disturbances = 0
    uncertainty_ms = 5.0

    def __init__(self, path: Path, start_ms: int, began: float) -> None:
        super().__init__(start_ms, 1.0)
        self._began = began
        if not path.exists():
            path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 8)

    def now_ms(self) -> int:
        (jumped,) = struct.unpack("<q", self._memory[:8])
        return self.start_ms + jumped + int((time.monotonic() - self._began) * 1000)

    def jump(self, milliseconds: int) -> int:
        with self._lock:
            (jumped,) = struct.unpack("<q", self._memory[:8])
            self._memory[:8] = struct.pack("<q", jumped + max(milliseconds, 0))
        return self.now_ms()

    async def sleep_until(self, time_ms: int) -> None:
        left = time_ms - self.now_ms()
        await asyncio.sleep(_BREATH if left > 1000 * _LONG_SLEEP else 0)
        self.jump(time_ms - self.now_ms())

    async def sleep(self, seconds: float) -> None:
        await self.sleep_until(self.now_ms() + int(1000 * seconds))


@dataclass(frozen=True, kw_only=True)
class Life:
    """One process of a daemon.

    Attributes:
      environment: key of `ENVIRONMENTS`. crash_at: as JAXTRADE_CRASH_AT, None = not asked.
      script: side wanted at each bar from ``first_bar_ms`` on; None = always another one than is
        held. steps: bars until it ends. settings: over those of `configuration`.
      start_ms, began: of the clock.
    """

    environment: str
    crash_at: str | None
    folder: str
    url: str
    stream_url: str
    api_key: str
    api_secret: str
    start_ms: int
    began: float
    script: tuple[int, ...] | None
    first_bar_ms: int
    steps: int
    name: str = "life"
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def file(self, kind: str) -> Path:
        """Where this life leaves its report or log."""
        return Path(self.folder) / f"{self.name}.{kind}"

    def clock(self) -> SharedClock:
        """The exchange's time."""
        return SharedClock(Path(self.folder) / "clock", self.start_ms, self.began)

    def passed(self) -> list[str]:
        """The crash points that it came by; the last one is where it died."""
        path = self.file("points")
        return path.read_text().split() if path.exists() else []

    def report(self) -> dict[str, Any]:
        """What it told; as far as it came."""
        path = self.file("report")
        lines = path.read_text().splitlines() if path.exists() else []
        return {key: value for line in lines for key, value in json.loads(line).items()}


# The process of one life --------------------------------------------------------------------------


class _Script:
    """The policy: a side per bar."""

    name, digest = "script", ""

    def __init__(self, life: Life, held: Any) -> None:
        self._life, self._held = life, held

    def __call__(self, observation: Any, info: Mapping[str, Any]) -> int:
        life = self._life
        if life.script is None:
            side = SHORT if self._held() > 0 else LONG
        else:
            bar = (info["bar_open_ms"] - life.first_bar_ms) // MINUTE
            side = life.script[bar % len(life.script)]
        return ACTIONS[life.environment][side]


async def live(life: Life) -> int:
    """Run a daemon as `live.runner` does, with the clock of the exchange."""
    from live.journal import Journal
    from live.trading.assembly import daemon_of, set_up
    from live.types import IntentKind
    from live.venues.bybit import BybitVenue

    def tell(**facts: Any) -> None:
        with life.file("report").open("a") as file:
            file.write(json.dumps(facts, default=str) + "\n")

    clock = life.clock()
    config = configuration(life.environment, life.steps, life.settings)
    venue = BybitVenue(
        life.api_key,
        life.api_secret,
        clock=clock,
        base_url=life.url,
        stream_url=f"{life.stream_url}/v5/private",
    )
    await venue.connect()
    begun_ms = clock.now_ms()
    tell(begun_ms=begun_ms)
    listed = {name: await set_up(venue, config.env_of(name)) for name in config.symbols}
    journal = Journal.open(
        Path(life.folder) / "account.db",
        account_id=(await venue.account()).account_id,
        strategy_id="crash",
        now_ms=clock.now_ms,
    )
    daemon = daemon_of(config, venue, listed, journal, clock)
    (loop,) = daemon.symbols
    symbol = loop.symbol
    loop.policy = _Script(life, lambda: journal.position(symbol))
    journal.start_run(
        mode="demo", venue=venue.name, symbols=[symbol], config_sha256="0", version="0"
    )
    start = daemon.start

    async def started() -> None:
        await start()
        position = await venue.position(symbol)
        tell(
            ready_ms=clock.now_ms(),
            ready_journal=journal.position(symbol),
            ready_venue=getattr(position, "quantity", Decimal(0)),
            ready_stop=getattr(position, "stop_price", None),
            ready_unresolved=[row.client_id for row in journal.unresolved(symbol)],
            ready_state=daemon.desk.state,
            ready_planner=dataclasses.asdict(loop.trader.state),
        )

    daemon.start = started  # type: ignore[method-assign]
    code = await daemon.run()
    tell(
        code=code,
        state=daemon.desk.state,
        reasons=list(daemon.desk.standing.reasons),
        steps=loop.progress.steps,
        decisions=[
            {key: row[key] for key in ("bar_open_ms", "decision", "refused", "reason")}
            for row in reversed(loop.progress.decisions)
        ],
        held_bars=loop.trader.state.held_bars,
        position=journal.position(symbol),
        trades=[one.trade_id for one in journal.fills(symbol)],
        # Of every order that left: the bar it was decided on.
        sent={
            row.client_id: bar
            for bar in range(life.first_bar_ms - MINUTE, clock.now_ms(), MINUTE)
            for row in journal.intents(symbol, bar)
            if row.sent_ms is not None and row.kind is not IntentKind.AMEND
        },
        unresolved=[row.client_id for row in journal.unresolved(symbol)],
        latches=[row.reason for row in journal.latches()],
    )
    journal.end_run(code)
    journal.close()
    await venue.close()
    return code


def configuration(
    environment: str, steps: int, settings: Mapping[str, str] = MappingProxyType({})
) -> Any:
    """A demo configuration of one-minute bars."""
    from live import config

    common = {
        "runner.mode": "demo",
        "runner.state_dir": "/nonexistent",
        "runner.max_steps": str(steps),
        "env.time_frames": "1min",
        "env.execute_on": "1min",
        "env.window_sizes": "5",
        "env.leverage": "3",
        "policy.baseline": "always_flat",
    }
    return config.load(None, {**common, **ENVIRONMENTS[environment], **settings}, {})


def _be(life: Life) -> int:
    """What a forked process does."""
    from live import crash

    os.setpgid(0, 0)
    faulthandler.dump_traceback_later(LIFE_SECONDS - 10)
    log = os.open(life.file("points"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    point = crash.point

    def noted(name: str) -> None:
        os.write(log, f"{name}\n".encode())
        point(name)

    crash.point = noted
    crash.arm(life.crash_at)
    errors = os.open(life.file("errors"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(errors, 2)
    os.dup2(errors, 1)
    return asyncio.run(live(life))


def _warm() -> None:
    """Import and compile what every life needs; leave no thread and no client behind."""
    import jax

    jax.config.update("jax_cpu_enable_async_dispatch", False)
    from live.exchange.opening import default_instrument
    from live.journal import Journal
    from live.trading.assembly import daemon_of
    from live.trading.listing import Listed
    from live.types import Configured
    from live.venues import bybit, bybit_client  # noqa: F401

    instrument = dataclasses.replace(default_instrument(), maintenance_rate=Decimal("0.004"))
    journal = Journal.open(None, account_id="1", strategy_id="warm", now_ms=lambda: 0)
    for environment in ENVIRONMENTS:
        venue: Any = SimpleNamespace(capabilities=bybit.BybitVenue.capabilities)
        config = configuration(environment, 1)
        env = config.env
        settings = Configured(Decimal(str(env.leverage)), env.margin_mode, env.position_mode)
        listed = {"BTCUSDT": Listed(instrument, settings)}
        daemon = daemon_of(config, venue, listed, journal, VirtualClock())
        daemon.symbols[0].trader.warm_up()


def _wait(process: int) -> int:
    """The status of a process that gets `LIFE_SECONDS`."""
    end = time.monotonic() + LIFE_SECONDS
    while time.monotonic() < end:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return 1000


def main() -> None:
    """Serve lives until standard input ends."""
    _warm()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        fields = json.loads(line)
        if fields["script"] is not None:
            fields["script"] = tuple(fields["script"])
        life = Life(**fields)
        process = os.fork()
        if not process:
            code = 70
            try:
                code = _be(life)
            finally:
                if code == 70:
                    import traceback

                    traceback.print_exc()
                os._exit(code)
        sys.stdout.write(f"{_wait(process)}\n")
        sys.stdout.flush()


# The side of the test -----------------------------------------------------------------------------


class Nursery:
    """A running nursery. Made by `nursery`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def bear(self, life: Life) -> int:
        """One life to its end: its exit code, or minus the signal that ended it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(dataclasses.asdict(life)) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def nursery() -> Iterator[Nursery]:
    """Start the program, end it with the block."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONWARNINGS": "ignore",
    }
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Nursery(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def settings(passed: list[str]) -> list[str]:
    """A setting of JAXTRADE_CRASH_AT for each point of a list, by name and occurrence."""
    counts: dict[str, itertools.count[int]] = {}
    return [f"{name}:{next(counts.setdefault(name, itertools.count(1)))}" for name in passed]


if __name__ == "__main__":
    main()

"""A whole run of the daemon at a local exchange, at a quick clock, and everything it has told."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from live import config as configs
from live import runner
from live.clock import SystemClock
from live.exchange.server import ExchangeServer
from live.operations import logs
from live.secrets import Secret, Tokens, private_folder

SPEED = 40.0


def quicken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's clocks of the runner go as fast as the exchange's."""
    origin, wall = time.monotonic(), time.time()

    def elapsed() -> float:
        return (time.monotonic() - origin) * SPEED

    clock = functools.partial(
        SystemClock,
        monotonic=elapsed,
        wall=lambda: wall + elapsed(),
        boot=elapsed,
        sleep=lambda seconds: asyncio.sleep(seconds / SPEED),
    )
    monkeypatch.setattr(runner, "SystemClock", clock)


def settings(server: ExchangeServer, folder: Path, **more: Any) -> dict[str, Any]:
    """A minute bar and few of them; times that the quick clock shrinks are long."""
    return {
        "runner.mode": "demo",
        "runner.state_dir": str(folder),
        "runner.max_steps": 2,
        "runner.bar_deadline": 55.0,
        "runner.fill_deadline_seconds": 400.0,
        "runner.stop_deadline_seconds": 60.0,
        "runner.intent_ttl_seconds": 50.0,
        "venue.base_url": server.url,
        "env.time_frames": "1min",
        "env.execute_on": "1min",
        "env.leverage": 5,
        "env.action_levels": [-1, -0.5, 0, 0.5, 1],
        "env.equity_buffer": 0.02,
        "policy.baseline": "always_long",
        "clock.halt_ms": 60_000.0,
        "risk.snapshot_age_seconds": 60.0,
        **more,
    }


def keys(server: ExchangeServer) -> dict[str, Secret]:
    """Those of the exchange's account."""
    return {
        "api_key": Secret("BYBIT_API_KEY", server.api_key),
        "api_secret": Secret("BYBIT_API_SECRET", server.api_secret),
    }


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def ask(port: int, path: str, token: Secret | None = None) -> tuple[int, str]:
    """HTTP status and text of a page; an `OSError` while nothing listens."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    if token is not None:
        request.add_header("Authorization", f"Bearer {token.reveal()}")
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@contextlib.contextmanager
def webhook() -> Iterator[tuple[str, list[str]]]:
    """An address that takes notifications, and what it has got."""
    got: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/hook", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Told:
    """What a run told: its exit code, the newest answers of its page, messages, folder."""

    code: int = -1
    metrics: str = ""
    status: dict[str, Any] = field(default_factory=dict)
    pages: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


def ran(server: ExchangeServer, folder: Path, **more: Any) -> Told:
    """Run the daemon to its end, asking its page all the while."""
    told, port = Told(), free_port()
    with webhook() as (address, messages):
        given = settings(server, folder, **more)
        given |= {"server.enabled": True, "server.port": port, "notify.webhook_url": address}
        config = configs.load(None, given, {})

        async def watched() -> int:
            running = asyncio.create_task(runner.run(config, secrets=keys(server)))
            while not running.done():
                await asyncio.sleep(0.1)
                await asyncio.to_thread(_look, port, folder, told)
            return await running

        handlers = list(logging.getLogger().handlers)
        logs.configure(folder=private_folder(folder))
        try:
            told.code = asyncio.run(watched())
        finally:
            for handler in logging.getLogger().handlers[:]:
                if handler not in handlers:
                    logging.getLogger().removeHandler(handler)
                    handler.close()
            logging.captureWarnings(False)
        told.messages = messages
    return told


def _look(port: int, folder: Path, told: Told) -> None:
    try:
        token = Tokens.read_only(folder).read
    except FileNotFoundError:
        return
    for path in ("/metrics", "/status"):
        try:
            status, text = ask(port, path, token)
        except OSError:
            return
        if status != 200:
            return
        told.pages.append(text)
        if path == "/metrics":
            told.metrics = text
        else:
            told.status = json.loads(text)

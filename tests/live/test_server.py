"""The operations page: who may see and do what, what every answer carries, and how it looks."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import math
import os
import re
import shutil
import struct
import subprocess
import zlib
from decimal import Decimal
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from live.config.tables import ServerConfig
from live.fields import ConfigError
from live.operations import server as server_module
from live.operations.answers import to_json
from live.operations.metrics import STATES, Metrics
from live.operations.server import BODY_BYTES, COMMANDS, WRONG_TOKENS, OperationsServer
from live.secrets import Secret, Tokens
from live.types import Side

READ, CONTROL = "READ" + "a" * 60, "CONTROL" + "b" * 57
TOKENS = Tokens(Secret("read token", READ), Secret("control token", CONTROL))
START = 1_763_740_800_000


def sample_status() -> dict:
    rng = np.random.default_rng(3)
    walk = 10_000 * np.exp(np.cumsum(rng.normal(0.0004, 0.004, 160)))
    window = np.round(rng.normal(0, 1, (12, 4)), 4)
    seen = {
        "market_data_5Minute": {"columns": ["close", "volume", "rsi", "return"], "rows": window},
        "account_state": {
            "labels": ["exposure", "direction", "unrealized", "held", "leverage", "distance"],
            "values": np.array([0.9, 1, 0.012, 4, 5, 0.18], np.float32),
        },
    }
    bare = {"market_data_5Minute": window.tolist(), "account_state": [0.0, 0, 0, 0, 5, 1]}
    decisions = [
        {
            "bar_open_ms": START + 300_000 * (20 - n), "action": n % 3, "level": (n % 3) - 1.0,
            "decision": ("hold", "open", "close")[n % 3], "refused": "collar" if n == 2 else None,
            "reason": "latched", "policy_ms": 1.8, "fallback": n == 3,
            "observation": (seen, bare, None)[min(n, 2)],
        }
        for n in range(6)
    ]  # fmt: skip
    return {
        "time_ms": START + 6_300_000, "started_ms": START - 86_400_000, "mode": "demo",
        "venue": "bybit", "account": "a1b2c3", "strategy": "default", "version": "0.1.0",
        "state": "REDUCING", "reasons": ["mismatch"],
        "latches": [
            {"state": "REDUCING", "reason": "mismatch", "detail": "0.010 sold by hand",
             "set_ms": START + 5_000_000}
        ],
        "equity": {
            "now": Decimal(str(round(walk[-1], 2))), "available": Decimal("4210.55"),
            "initial": Decimal(10000), "peak": Decimal("10900"), "day_start": Decimal("10500"),
            "asset": "USDT", "drawdown": 0.021, "daily_loss": 0.004,
        },
        "equity_history": [[START + 60_000 * i, float(x)] for i, x in enumerate(walk)],
        "symbols": [
            {
                "symbol": "BTC/USDT:USDT", "execute_on": "5Minute", "frozen": None,
                "next_bar_ms": START + 6_420_000,
                "position": {
                    "state": "held", "quantity": Decimal("0.125"),
                    "entry_price": Decimal("86012.5"), "mark_price": Decimal("87044.1"),
                    "unrealised_pnl": Decimal("128.95"), "liquidation_price": Decimal("70180"),
                },
                "protection": {
                    "state": "protected", "stop_price": Decimal("83861.9"),
                    "target_price": Decimal("90313.1"), "where": "venue",
                },
                "orders": [
                    {"client_id": "jx-a1-000017-s", "role": "stop", "side": Side.SELL,
                     "quantity": Decimal("0.125"), "filled": Decimal(0),
                     "trigger_price": Decimal("83861.9"), "status": "open",
                     "time_ms": START + 4_000_000}
                ],
                "decisions": decisions,
                "unknown_orders": [{"client_id": "jx-a1-000019-e", "age_seconds": 12.5}],
            }
        ],
        "feeds": [
            {"name": "bars 5Minute", "age_seconds": 41.0, "limit_seconds": 330},
            {"name": "private stream", "age_seconds": 75.0, "limit_seconds": 60},
        ],
        "clock": {"offset_ms": -12.4, "uncertainty_ms": 18.0},
        "breakers": [
            {"name": "daily loss", "value": 0.004, "limit": 0.03},
            {"name": "drawdown", "value": 0.045, "limit": 0.05},
        ],
    }  # fmt: skip


def sample_symbols(count: int) -> list[dict]:
    """The sample's symbol in detail and others as rows: held ones, flat ones, and three alarms."""
    (first,) = sample_status()["symbols"]
    first |= {"state": "REDUCING", "reasons": [], "policy": "bundle", "steps": 288}
    first |= {"missed_bars": 1, "decision": first["decisions"][0]}
    coins = ("ETH", "SOL", "XRP", "DOGE", "ADA", "LINK", "AVAX", "DOT", "LTC", "BCH")
    rows = [first]
    for n in range(1, count):
        name = coins[n - 1] if n <= len(coins) else f"COIN{n}"
        price = Decimal(3000) / n
        side = 1 if n % 3 else -1
        held = n % 2 == 1
        position = {
            "state": "held", "quantity": side * Decimal(n), "entry_price": price,
            "mark_price": price * Decimal("1.01"), "liquidation_price": price / 2,
            "unrealised_pnl": side * n * price / 100,
        }  # fmt: skip
        guard = {
            "state": "protected", "stop_price": price * (1 - side * Decimal("0.05")),
            "target_price": None, "where": "venue",
        }  # fmt: skip
        bare, unknown, lost = n == 5, n == 6, n == 8
        if bare:
            guard.update(state="bare", stop_price=None)
        rows.append({
            "symbol": f"{name}/USDT:USDT", "execute_on": "5Minute",
            "next_bar_ms": START + 6_420_000, "state": "REDUCING", "reasons": [],
            "frozen": "an order of unknown outcome" if lost else None, "policy": "bundle",
            "steps": 20, "missed_bars": 0,
            "position": position if held else {"state": "unknown" if unknown else "flat"},
            "protection": guard if held else None,
            "decision": {"decision": ("hold", "open", "close")[n % 3],
                         "refused": "gross_notional" if n == 4 else None},
            "unknown_orders": [{"client_id": "jx", "age_seconds": 3}] if lost else [],
        })  # fmt: skip
    return rows


class Source:
    """A runner as the page sees it."""

    def __init__(self, **values):
        self.values = {**sample_status(), **values}
        self.is_ready, self.reasons, self.age = True, [], 0.1
        self.commands, self.behave = [], None

    def status(self, symbol=None):
        known = [one["symbol"] for one in self.values["symbols"]]
        if symbol is not None and symbol not in known:
            raise ValueError(f"symbol: {symbol!r} is not traded")
        return {**self.values, "symbol": symbol or known[0]}

    def ready(self):
        return self.is_ready, self.reasons

    def tick_age(self):
        return self.age

    async def command(self, name, reason):
        if self.behave is not None:
            await self.behave()
        self.commands.append((name, reason))
        return {"state": "HALTED"}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def serving(test, source=None, *, config=None, clock=None, **more):
    """Run ``await test(get, source)`` against a server; get(method, path, **options)."""

    async def main():
        shown = source or Source()
        server = OperationsServer(
            shown,
            config or ServerConfig(enabled=True, port=0),
            TOKENS,
            metrics=Metrics().render,
            monotonic=clock or (lambda: 0.0),
            **more,
        )
        async with server.running() as url, aiohttp.ClientSession() as session:

            async def ask(method, path, token=None, **options):
                options["headers"] = {
                    **(bearer(token) if token else {}),
                    **options.get("headers", {}),
                }
                async with session.request(method, url + path, **options) as reply:
                    text = await reply.text()
                    return reply.status, reply.headers, text

            return await test(ask, shown, url)

    return asyncio.run(main())


# Who may do what --------------------------------------------------------------------------------


def test_health_and_readiness_are_open_and_honest():
    async def check(ask, source, url):
        assert (await ask("GET", "/healthz"))[0] == 200
        assert (await ask("GET", "/readyz"))[0] == 200
        for age in (5.0, 99.0, math.nan):
            source.age = age
            assert (await ask("GET", "/healthz"))[0] == 503
        source.is_ready, source.reasons = False, ["stream", "clock"]
        status, _, text = await ask("GET", "/readyz")
        assert (status, json.loads(text)["reasons"]) == (503, ["stream", "clock"])

    serving(check)


def test_status_and_metrics_need_a_token():
    async def check(ask, source, url):
        for path in ("/status", "/metrics"):
            status, headers, text = await ask("GET", path)
            assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
            assert "10000" not in text
            assert (await ask("GET", path, READ[:-1]))[0] == 401
            assert (await ask("GET", path, READ))[0] == 200
            assert (await ask("GET", path, CONTROL))[0] == 200
        body = json.loads((await ask("GET", "/status", READ))[2])
        assert (body["access"], body["mode"], body["ready"]) == ("read", "demo", True)
        assert body["symbols"][0]["position"]["quantity"] == "0.125"
        assert json.loads((await ask("GET", "/status", CONTROL))[2])["access"] == "control"
        _, headers, text = await ask("GET", "/metrics", READ)
        assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert "jaxtrade_live_equity" in text

    serving(check)


def test_one_symbol_is_asked_for_by_name():
    async def check(ask, source, url):
        for name in ("ETH/USDT:USDT", "BTC/USDT:USDT"):
            status, _, text = await ask("GET", f"/status?symbol={name}", READ)
            assert (status, json.loads(text)["symbol"]) == (200, name)
        status, _, text = await ask("GET", "/status?symbol=NONE", READ)
        assert (status, json.loads(text)["error"]) == (404, "symbol: 'NONE' is not traded")
        assert (await ask("GET", "/status?symbol=BTC/USDT:USDT"))[0] == 401

    serving(check, Source(symbols=sample_symbols(3)))


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_need_the_control_token_and_a_reason(name):
    async def check(ask, source, url):
        path, body = f"/{name}", {"reason": "looks  wrong\n"}
        assert (await ask("POST", path, json=body))[0] == 401
        assert (await ask("POST", path, READ, json=body))[0] == 403
        for bad in ({}, {"reason": " "}, {"reason": "x" * 501}, ["x"], "reason"):
            assert (await ask("POST", path, CONTROL, json=bad))[0] == 400
        assert (await ask("POST", path, CONTROL, data=b"\xff{"))[0] == 400
        assert (await ask("GET", path, CONTROL))[0] == 405
        assert source.commands == []
        status, _, text = await ask("POST", path, CONTROL, json=body)
        assert (status, json.loads(text)) == (202, {"accepted": True, "state": "HALTED"})
        assert source.commands == [(name, "looks wrong")]

    serving(check)


def test_there_is_no_resume_over_the_wire():
    async def check(ask, source, url):
        assert (await ask("POST", "/resume", CONTROL, json={"reason": "x"}))[0] == 404

    serving(check)


def test_a_refused_command_says_why_and_a_slow_one_goes_on(monkeypatch):
    monkeypatch.setattr(server_module, "COMMAND_SECONDS", 0.05)

    async def check(ask, source, url):
        async def refuse():
            raise ValueError("flat already")

        source.behave = refuse
        status, _, text = await ask("POST", "/flatten", CONTROL, json={"reason": "x"})
        assert (status, json.loads(text)["error"]) == (409, "flat already")
        done = asyncio.Event()

        async def slow():
            await asyncio.sleep(0.15)
            done.set()

        source.behave = slow
        assert (await ask("POST", "/flatten", CONTROL, json={"reason": "x"}))[0] == 504
        await asyncio.wait_for(done.wait(), 15)

    serving(check)


def test_wrong_tokens_are_limited_but_lock_nobody_out():
    now = [0.0]

    async def check(ask, source, url):
        codes = [(await ask("GET", "/status", "wrong"))[0] for _ in range(WRONG_TOKENS + 3)]
        assert codes == [401] * WRONG_TOKENS + [429] * 3
        assert "Retry-After" in (await ask("POST", "/halt", "wrong"))[1]
        assert (await ask("POST", "/halt", CONTROL, json={"reason": "x"}))[0] == 202
        now[0] = 61.0
        assert (await ask("GET", "/status", "wrong"))[0] == 401

    serving(check, clock=lambda: now[0])


def test_bodies_are_limited():
    async def check(ask, source, url):
        body = json.dumps({"reason": "x" * (BODY_BYTES + 1)})
        assert (await ask("POST", "/halt", CONTROL, data=body))[0] == 413
        assert source.commands == []

    serving(check)


# What every answer carries ----------------------------------------------------------------------


def test_no_other_site_may_use_it():
    async def check(ask, source, url):
        origin = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        for method, path in (("OPTIONS", "/halt"), ("GET", "/status"), ("GET", "/"), ("GET", "/x")):
            _, headers, _ = await ask(method, path, CONTROL, headers=origin)
            assert not [name for name in headers if name.startswith("Access-Control")]
            assert "Set-Cookie" not in headers
            assert headers["X-Frame-Options"] == "DENY"
            assert headers["Cache-Control"] == "no-store"
            assert "default-src 'none'" in headers["Content-Security-Policy"]
        for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example"):
            status, _, _ = await ask("GET", "/status", CONTROL, headers={"Host": host})
            assert status == 403
        for host in ("localhost:1", "[::1]:1", "127.0.0.1"):
            assert (await ask("GET", "/healthz", headers={"Host": host}))[0] == 200

    serving(check)


def test_the_page_brings_everything_itself():
    async def check(ask, source, url):
        status, headers, text = await ask("GET", "/")
        assert status == 200
        assert headers["Content-Type"].startswith("text/html")
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
        for forbidden in (" src=", "@import", "innerHTML", "localStorage", "document.cookie"):
            assert forbidden not in text
        assert READ not in text
        assert CONTROL not in text

    serving(check)


def test_a_defect_shows_no_detail_to_the_outside(caplog):
    class Broken(Source):
        def status(self, symbol=None):
            raise RuntimeError(f"token {CONTROL}")

    async def check(ask, source, url):
        status, _, text = await ask("GET", "/status", READ)
        assert status == 500
        assert "token" not in text
        assert "Traceback" not in text

    serving(check, Broken())


def test_numbers_are_strict_json_and_secrets_are_masked():
    @dataclasses.dataclass
    class Row:
        price: Decimal
        side: Side

    text = to_json(
        {
            "nan": math.nan, "inf": np.float32("inf"), "rows": np.array([[1.0, np.nan]]),
            "exact": Decimal("1E-7"), "row": Row(Decimal("1.50"), Side.BUY), "set": {1},
            "token": f"Bearer {CONTROL}", "secret": TOKENS.read, "path": Path("/x"),
        }
    )  # fmt: skip
    assert json.loads(text) == {
        "nan": None, "inf": None, "rows": [[1.0, None]], "exact": "0.0000001",
        "row": {"price": "1.50", "side": "buy"}, "set": [1], "token": "Bearer ***",
        "secret": "<secret read token>", "path": "/x",
    }  # fmt: skip


# Where it listens -------------------------------------------------------------------------------


def test_a_taken_port_is_one_clear_line():
    async def check(ask, source, url):
        port = int(url.rpartition(":")[2])
        other = OperationsServer(source, ServerConfig(enabled=True, port=port), TOKENS)
        with pytest.raises(
            ValueError, match=rf"\[server\] port: cannot listen on 127.0.0.1:{port}"
        ):
            async with other.running():
                pass

    serving(check)


def test_other_machines_are_served_with_a_certificate_alone(tmp_path):
    with pytest.raises(ConfigError, match="without a certificate only this machine"):
        ServerConfig(host="0.0.0.0")
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    names = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *names, *subject],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    config = ServerConfig(
        port=0, certificate=tmp_path / "cert.pem", certificate_key=tmp_path / "key.pem"
    )

    async def check(ask, source, url):
        assert url.startswith("https://")
        assert (await ask("GET", "/healthz", ssl=False))[0] == 200

    serving(check, config=config)
    broken = dataclasses.replace(config, certificate_key=tmp_path / "cert.pem")
    with pytest.raises(ValueError, match=r"\[server\] certificate: cannot be used"):
        serving(check, config=broken)


def test_metrics_have_the_promised_names():
    metrics = Metrics()
    metrics.set_state("HALTED")
    metrics.orders_total.labels(role="e", outcome="accepted", category="").inc()
    text = metrics.render().decode()
    names = (
        "state equity drawdown_ratio daily_loss_ratio unknown_orders unknown_age_seconds "
        "orders_total snapshot_seconds_count policy_seconds_sum submit_seconds_bucket "
        "journal_commit_seconds_bucket clock_offset_seconds clock_uncertainty_seconds "
        "notify_dropped_total loop_errors_total fallback_decisions_total"
    )
    for name in names.split():
        assert f"jaxtrade_live_{name}" in text, name
    for state in STATES:
        assert f'jaxtrade_live_state{{state="{state}"}} {float(state == "HALTED")}' in text
    with pytest.raises(ValueError, match="state: must be one of"):
        metrics.set_state("PANIC")
    other = Metrics()  # each has a registry of its own
    assert 'jaxtrade_live_state{state="HALTED"} 0.0' in other.render().decode()


# How it looks -----------------------------------------------------------------------------------


def browser() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    pytest.skip("no chromium, chromium-browser or google-chrome to look at the page with")


async def photograph(url: str, folder: Path, *, dump: bool = False) -> bytes:
    """A picture of the page as PNG, or with ``dump`` its elements after the script ran."""
    picture = folder / "page.png"
    how = ["--dump-dom"] if dump else [f"--screenshot={picture}"]
    process = await asyncio.create_subprocess_exec(
        browser(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        "--window-size=1200,1500", "--virtual-time-budget=3000",
        f"--user-data-dir={folder / 'profile'}", *how, url,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    with contextlib.suppress(ProcessLookupError):
        try:
            out, _ = await asyncio.wait_for(process.communicate(), 60)
        except TimeoutError:
            process.kill()
            raise
    return out if dump else picture.read_bytes()


def colours(png: bytes) -> int:
    """Number of different pixels of an 8-bit PNG."""
    assert png.startswith(b"\x89PNG")
    width, height, depth, kind = struct.unpack(">IIBB", png[16:26])
    assert depth == 8
    chunks, at = b"", 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            chunks += png[at + 8 : at + 8 + length]
        at += 12 + length
    channels = {2: 3, 6: 4}[kind]
    raw = np.frombuffer(zlib.decompress(chunks), np.uint8).reshape(height, 1 + width * channels)
    return len(np.unique(raw[:, 1:].reshape(-1, channels), axis=0))


def test_the_page_shows_the_daemon(tmp_path):
    browser()

    async def check(ask, source, url):
        source.is_ready, source.reasons = False, ["latched"]
        before = (await photograph(url, tmp_path, dump=True)).decode()
        assert "password" in before
        assert 'id="controls" hidden' in before
        dom = (await photograph(f"{url}/#{READ}", tmp_path, dump=True)).decode()
        for text in ("DEMO", "REDUCING: mismatch", "BTC/USDT:USDT", "jx-a1-000017-s",
                     "0.010 sold by hand", "long 0.125", "not ready: latched",
                     "market_data_5Minute", "83,861.9",
                     "Orders of unknown outcome", "private stream"):  # fmt: skip
            assert text in dom, text
        assert "<polyline" in dom
        assert 'id="controls" hidden' in dom  # the read token gives no buttons
        assert READ not in dom
        dom = (await photograph(f"{url}/#{CONTROL}", tmp_path, dump=True)).decode()
        assert 'id="controls" hidden' not in dom
        picture = await photograph(f"{url}/#{CONTROL}", tmp_path)
        assert colours(picture) > 50

    serving(check)


def test_the_page_stays_usable_with_many_symbols(tmp_path):
    browser()

    async def check(ask, source, url):
        dom = (await photograph(f"{url}/#{READ}", tmp_path, dump=True)).decode()
        assert dom.count("<tr data-symbol=") + dom.count('<tr class="chosen" data-symbol=') == 200
        assert "200 traded, 101 held, 4 with an alarm" in dom
        assert dom.count("<h3>Orders at the venue</h3>") == 1  # one of them in detail
        # Alarms come first: a bare position, an unknown one, an order in doubt.
        order = re.findall(r'data-symbol="([A-Z0-9]+)/', dom)
        assert order[:4] == ["BTC", "ADA", "LINK", "DOT"]
        assert order.index("ETH") < order.index("SOL")  # then held ones
        assert "gross_notional" in dom
        assert "oldest: ETH/USDT:USDT" in dom
        assert "switched off: collar" in dom
        assert "2 changes that no order explains" in dom
        assert "circuit open for another 2.0 s" in dom
        picture = await photograph(f"{url}/#{CONTROL}", tmp_path)
        assert colours(picture) > 50

    held_up = {"market/tickers": "circuit open for another 2.0 s"}
    more = {"disabled": ["collar"], "unacknowledged": 2, "held_up": held_up}
    source = Source(symbols=sample_symbols(200), **more)
    source.values["feeds"][0]["symbol"] = "ETH/USDT:USDT"
    serving(check, source)


def test_the_picture_of_the_documentation(tmp_path):
    kept = os.environ.get("JAXTRADE_SCREENSHOT")
    if not kept:
        pytest.skip("JAXTRADE_SCREENSHOT=FILE keeps the picture of the page")

    async def check(ask, source, url):
        source.is_ready, source.reasons = False, ["REDUCING", "mismatch"]
        picture = await photograph(f"{url}/#{CONTROL}", tmp_path)
        await asyncio.to_thread(Path(kept).write_bytes, picture)

    serving(check, Source(symbols=sample_symbols(9)))


def test_text_from_a_venue_never_becomes_markup(tmp_path):
    browser()
    source = Source(reasons=["<img src=x onerror=alert(1)>"])

    async def check(ask, source, url):
        dom = (await photograph(f"{url}/#{READ}", tmp_path, dump=True)).decode()
        assert "&lt;img src=x" in dom
        assert "<img" not in dom

    serving(check, source)

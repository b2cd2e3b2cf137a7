"""Keys: where they may come from, and that nothing written by the live layer shows one."""

from __future__ import annotations

import asyncio
import base64
import copy
import dataclasses
import io
import json
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from live import mailbox
from live.exchange.server import ExchangeServer
from live.fields import ConfigError
from live.operations import cli_prepare, logs
from live.operations.answers import to_json
from live.operations.doctor import examine
from live.operations.logs import about
from live.operations.messages import Kind
from live.operations.notify import Notifier
from live.secrets import (
    Secret,
    Tokens,
    confirm_account,
    private_folder,
    read_file,
    read_private,
    read_secrets,
    redact,
    redacted,
    refuse_unused,
    remember,
)
from tests.live import real_run

# Planted keys; one with every character that some encoding changes.
KEY = "MARKERkey0123456789abcdef"
ODD = 'MARKER/odd+"quoted"\\back&=%é'
WANTED = {"api_key": ("VENUE_API_KEY",), "api_secret": ("VENUE_API_SECRET",)}


@pytest.fixture
def planted():
    return Secret("VENUE_API_KEY", KEY), Secret("VENUE_API_SECRET", ODD)


@pytest.fixture
def log():
    """A configured log into memory; the handlers of others come back afterwards."""
    root, ours = logging.getLogger(), logging.getLogger("live")
    before = (list(root.handlers), root.level, ours.level, sys.excepthook)
    stream = io.StringIO()
    logs.configure(stream=stream)
    yield stream
    for handler in list(root.handlers):
        if handler not in before[0]:
            root.removeHandler(handler)
            handler.close()
    root.setLevel(before[1])
    ours.setLevel(before[2])
    sys.excepthook = before[3]
    logging.captureWarnings(False)


def assert_clean(text: str) -> None:
    for value in (KEY, ODD):
        encoded = base64.b64encode(value.encode()).decode()
        for spelling in (value, quote(value), quote(value, safe=""), encoded, value.encode().hex()):
            assert spelling not in text
        assert json.dumps(value)[1:-1] not in text
    assert "MARKER" not in text


# The type ---------------------------------------------------------------------------------------


def test_a_secret_has_no_text(planted):
    secret, _ = planted
    assert secret.reveal() == KEY
    assert secret.matches(KEY)
    assert not secret.matches(KEY[:-1])
    assert secret.fingerprint.startswith("key:")
    assert len(secret.fingerprint) == len("key:") + 8

    @dataclasses.dataclass
    class Holder:
        secret: Secret

    holder = Holder(secret)
    shown = [
        repr(secret), str(secret), f"{secret}", f"{secret:>40}", "%s %r" % (secret, secret),  # noqa: UP031
        repr([secret]), repr({"k": secret}), repr(holder), repr(dataclasses.asdict(holder)),
        repr(copy.copy(secret)), repr(copy.deepcopy(secret)), secret.fingerprint, repr(dir(secret)),
    ]  # fmt: skip
    assert_clean(" ".join(shown))
    assert not hasattr(secret, "__dict__")
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        json.dumps(secret)


@pytest.mark.parametrize(
    "value", ["", "short", " padded-key-1", "two\nlines-of-it", "tab\tinside9"]
)
def test_what_cannot_be_a_key_is_refused_without_showing_it(value):
    with pytest.raises(ValueError, match="VENUE_API_KEY: ") as caught:
        Secret("VENUE_API_KEY", value)
    assert not value.strip() or value.strip() not in str(caught.value)


# Sources ----------------------------------------------------------------------------------------


def private(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "keys"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def test_sources_agree_or_are_refused(tmp_path):
    path = private(tmp_path, f"# mine\n\nexport VENUE_API_KEY='{KEY}'\nVENUE_API_SECRET={ODD}\n")
    found = read_secrets(WANTED, environ={}, file=path)
    assert (found["api_key"].reveal(), found["api_secret"].reveal()) == (KEY, ODD)
    environ = {"VENUE_API_KEY": KEY, "VENUE_API_SECRET": ODD}
    assert read_secrets(WANTED, environ=environ)["api_secret"].matches(ODD)
    assert read_secrets(WANTED, given={"api_key": KEY}, environ=environ, file=path)
    with pytest.raises(ConfigError, match="api_key: its sources differ") as caught:
        read_secrets(WANTED, given={"api_key": KEY + "x"}, environ=environ)
    assert_clean(str(caught.value))


def test_missing_ones_are_listed_by_name():
    with pytest.raises(ConfigError, match="missing: VENUE_API_KEY, VENUE_API_SECRET"):
        read_secrets(WANTED, environ={"VENUE_API_KEY": ""})
    with pytest.raises(ConfigError, match="VENUE_API_KEY: expected a key of at least"):
        read_secrets(WANTED, given={"api_key": ""}, environ={"VENUE_API_SECRET": ODD})


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o700])
def test_a_file_that_others_may_read_is_refused(tmp_path, mode):
    path = private(tmp_path, f"VENUE_API_KEY={KEY}\n", mode)
    with pytest.raises(
        ConfigError, match=rf"has mode {mode:04o}, expected 0600; chmod 600"
    ) as caught:
        read_file(path)
    assert_clean(str(caught.value))


def test_links_folders_and_foreign_files_are_refused(tmp_path, monkeypatch):
    path = private(tmp_path, f"VENUE_API_KEY={KEY}\n")
    link = tmp_path / "link"
    link.symlink_to(path)
    for bad in (link, tmp_path):
        with pytest.raises(ConfigError, match="plain file"):
            read_private(bad)
    with pytest.raises(FileNotFoundError):
        read_private(tmp_path / "none")
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    with pytest.raises(ConfigError, match="belongs to another user"):
        read_private(path)


@pytest.mark.parametrize("line", [f"{KEY}", f"A B={KEY}", f"={KEY}", "NAME=", f"X={KEY}\nX={KEY}"])
def test_malformed_lines_are_named_by_number_alone(tmp_path, line):
    with pytest.raises(ConfigError, match=r"line \d: ") as caught:
        read_file(private(tmp_path, line))
    assert_clean(str(caught.value))


def test_unused_keys_are_refused():
    refuse_unused({"api_key": None}, "paper")
    for value in (KEY, ""):
        with pytest.raises(ConfigError, match="api_key: not used: paper; remove") as caught:
            refuse_unused({"api_key": value}, "paper")
        assert_clean(str(caught.value))


def test_the_confirmed_account_is_that_of_the_keys(planted):
    secret, _ = planted
    confirm_account("777", "777", secret)
    confirm_account(secret.fingerprint, None, secret)
    for confirmed, account in (("778", "777"), ("777", None), (secret.fingerprint, "777")):
        with pytest.raises(ConfigError, match="--confirm-live"):
            confirm_account(confirmed, account, secret)


def test_tokens_are_made_once_for_their_owner(tmp_path):
    tokens = Tokens.of(tmp_path)
    path = tmp_path / Tokens.FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(tokens.control.reveal()) == 64
    assert not tokens.read.matches(tokens.control.reveal())
    assert Tokens.of(tmp_path).control.matches(tokens.control.reveal())
    assert redact(f"Bearer {tokens.control.reveal()}") == "Bearer ***"
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="0644"):
        Tokens.of(tmp_path)


def test_the_state_folder_is_its_owners(tmp_path):
    folder = private_folder(tmp_path / "a" / "b")
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    with pytest.raises(ConfigError, match="expected 0700"):
        private_folder(folder)


# Nothing written shows one ----------------------------------------------------------------------


def spellings() -> str:
    parts = []
    for value in (KEY, ODD):
        parts += [value, quote(value), quote(value, safe=""), json.dumps({"k": value}), repr(value)]
        parts += [base64.b64encode(value.encode()).decode(), value.encode().hex()]
    return " | ".join(parts)


def test_every_spelling_is_replaced(planted):
    assert_clean(redact(spellings()))
    assert_clean(json.dumps(redacted({KEY: [spellings(), {"x": (ODD, 1, None)}]})))
    assert redact("nothing to hide") == "nothing to hide"
    remember("https://example.com/hook/MARKER-of-a-webhook")
    assert_clean(redact("POST https://example.com/hook/MARKER-of-a-webhook failed"))


def fail_with_key() -> None:
    key, secret = KEY, ODD
    raise ConnectionError(f"GET https://x?api_key={key}&sign={quote(secret)} -> 401")


async def fail_in_the_loop(error):
    with logs.loop_errors():
        context = {"message": f"task failed {KEY}", "exception": error}
        asyncio.get_running_loop().call_exception_handler(context)


def test_logs_have_no_secret_in_any_part(planted, log):
    logger = logging.getLogger("live.venue")
    logger.warning("headers %s", {"X-API-KEY": KEY, "X-SIGN": ODD})
    logger.warning(spellings(), extra={"payload": spellings(), "secret": planted[0]})
    with about(symbol="BTCUSDT", note=KEY):
        try:
            fail_with_key()
        except ConnectionError:
            logger.exception("request failed: %s", ODD, stack_info=True)
    logging.getLogger("some.sdk").warning("sent %s", spellings())
    logging.getLogger("some.sdk").debug("never heard %s", KEY)
    try:
        fail_with_key()
    except ConnectionError as error:
        sys.excepthook(type(error), error, error.__traceback__)
        asyncio.run(fail_in_the_loop(error))
    text = log.getvalue()
    assert_clean(text)
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) == 6
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    assert lines[2]["symbol"] == "BTCUSDT"
    assert "ConnectionError" in lines[2]["error"]
    assert "***" in lines[2]["error"]


def test_logs_for_people_are_redacted_too(planted):
    formatter = logs.PlainLines()
    record = logging.makeLogRecord(
        {"msg": "x %s", "args": (ODD,), "levelname": "INFO", "about": {}}
    )
    record.payload = spellings()
    try:
        fail_with_key()
    except ConnectionError:
        record.exc_info = sys.exc_info()
    assert_clean(formatter.format(record))


def test_the_log_file_is_its_owners(tmp_path, log):
    logs.configure(stream=io.StringIO(), folder=tmp_path)
    with about(bar_open_ms=1_700_000_000_000, client_id="c1"):
        logging.getLogger("live.runner").info("sent")
    logging.getLogger("live").handlers.clear()
    path = tmp_path / logs.FILE
    assert path.stat().st_mode & 0o777 == 0o600
    (line,) = [json.loads(text) for text in path.read_text().splitlines()]
    assert (line["client_id"], line["bar_open_ms"]) == ("c1", 1_700_000_000_000)


def test_pages_mailboxes_and_notifications_are_redacted(planted, tmp_path, log):
    assert_clean(to_json({"detail": spellings(), "secret": planted[1], KEY: 1}))

    sent = []

    class Channel:
        name = "test"

        async def deliver(self, message):
            sent.append(message.line)

    async def notify():
        notifier = Notifier([Channel()])
        notifier.send(Kind.HALTED, f"auth failed: {spellings()}")
        task = asyncio.create_task(notifier.run())
        await notifier.flush(2)
        task.cancel()

    asyncio.run(notify())
    assert len(sent) == 1
    assert_clean(sent[0])
    assert_clean(log.getvalue())

    folder = private_folder(tmp_path / "state")
    mailbox.post(folder, "halt", "why", by="me", now_ms=1000)
    (request,) = mailbox.take(folder, 1000)
    mailbox.answer(folder, request, {"accepted": False, "error": spellings()})
    assert_clean("".join(p.read_text() for p in (folder / mailbox.FOLDER).iterdir()))


def test_the_command_line_shows_no_secret(tmp_path):
    private(tmp_path, f"BYBIT_API_KEY={KEY}\nBYBIT_API_SECRET={ODD}\n", 0o644)
    (tmp_path / "live.toml").write_text(
        "[runner]\nmode = 'demo'\nstate_dir = 'state'\n[policy]\nbundle = 'b'\n"
        f"[env]\nsecret = '{KEY}'\n"
        f"[notify]\nwebhook_url = 'ftp://{KEY}'\n"
    )
    environ = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("JAXTRADE", "BYBIT"))},
        "BYBIT_API_KEY": KEY,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "JAX_PLATFORMS": "cpu",
    }
    script = (
        "import sys; from live.cli import live\n"
        "for words in (['check'], ['config', 'show'], ['run'], ['run', '--credentials', 'keys'],\n"
        "              ['check', '--credentials', 'keys', '--json'], ['status'],\n"
        f"              ['halt', '--reason', 'x', '--set', 'runner.mode={KEY}']):\n"
        "    print(words[0], live(words))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    # What was typed on the command line itself is not a secret, so it may be repeated.
    said = done.stdout + done.stderr.replace(f"was '{KEY}'", "")
    assert "env] secret: unknown field" in said
    assert_clean(said)


@pytest.mark.slow
def test_a_real_run_shows_no_key_anywhere(tmp_path, monkeypatch, capsys):
    """Page, metrics, messages, log, journal and doctor, although the venue repeats the keys."""
    real_run.quicken(monkeypatch)
    server = ExchangeServer(speed=real_run.SPEED)
    server._access.api_key, server._access.api_secret = KEY, ODD
    told_key = f"apiKey={KEY}&sign={quote(ODD)} {ODD}"
    for route, action, count, arguments in (
        ("order/create", "reject", 1, {"code": 110007, "message": told_key}),
        ("position/list", "status", 3, {"code": 500, "body": told_key}),
        ("account/wallet-balance", "reject", 2, {"code": 10016, "message": told_key}),
        ("market/tickers", "mutate_field", 2, {"path": "result.list.0.markPrice", "value": ODD}),
        ("stream/private", "garbage_event", 2, {"body": told_key}),
    ):
        server.faults.add(route, action, count, skip=6, **arguments)
    folder = tmp_path / "state"
    environ = {"BYBIT_API_KEY": KEY, "BYBIT_API_SECRET": ODD}
    with server.threaded():
        told = real_run.ran(server, folder, **{"runner.max_steps": 3})
        overrides = {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in real_run.settings(server, folder).items()
        }
        rows = examine(None, overrides, environ=environ)
        server.revoke_key()
        rows += examine(None, overrides, environ=environ)
    cli_prepare.told(rows, as_json=False)
    cli_prepare.told(rows, as_json=True)

    assert told.code == 0
    assert any("/hook" not in page and "BTC/USDT:USDT" in page for page in told.pages)
    assert any('"kind": "start"' in message for message in told.messages)
    assert {row.group for row in rows} >= {"permissions", "account", "environment"}
    said = "".join([*told.pages, *told.messages, *capsys.readouterr()])
    assert "permissions" in said
    assert_clean(said)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            kept = path.read_bytes()
            assert_clean(kept.decode("utf-8", "replace"))
            assert_clean(kept.decode("latin-1"))
    assert (folder / logs.FILE).stat().st_size > 1_000
    assert list(folder.glob("*.db"))

"""Logs: one JSON object per line, without secrets, with the bar and the ids they are about."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import logging.handlers
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from live.secrets import redact, redacted

ROOT = "live"
FILE = "live.log"
_FILE_BYTES, _FILES = 16 * 2**20, 5
# What a record has of itself; everything else came in through ``extra``.
_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}

_context: ContextVar[dict[str, Any]] = ContextVar("live_log_context", default={})  # noqa: B039  # never mutated


@contextlib.contextmanager
def about(**fields: Any) -> Iterator[None]:
    """Add fields to every line logged in this block, such as ``symbol`` or ``bar_open_ms``."""
    token = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(token)


class _Fields(logging.Filter):
    """Keeps the context of the caller: a handler may format in another task."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.about = _context.get()
        return True


class JsonLines(logging.Formatter):
    """One redacted JSON object per record."""

    def format(self, record: logging.LogRecord) -> str:
        """The line: time, level, logger, message, the fields and, after an error, the traceback."""
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(getattr(record, "about", {}))
        extra = {k: v for k, v in record.__dict__.items() if k not in _OWN and k != "about"}
        line.update(extra)
        if record.exc_info:
            line["error"] = "".join(traceback.format_exception(*record.exc_info))
        if record.stack_info:
            line["stack"] = record.stack_info
        # Once before quoting, where values are whole, and once after it for whatever was text only
        # as JSON.
        return redact(json.dumps(redacted(line), default=str, ensure_ascii=False))


class PlainLines(logging.Formatter):
    """For people at a terminal: time, level, message and fields; redacted."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it."""
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        shown = {**getattr(record, "about", {})}
        shown.update({k: v for k, v in record.__dict__.items() if k not in _OWN and k != "about"})
        fields = "".join(f" {name}={value}" for name, value in shown.items())
        text = f"{moment} {record.levelname.lower():<7} {record.getMessage()}{fields}"
        if record.exc_info:
            text += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return redact(text)


def configure(
    *,
    level: int = logging.INFO,
    stream: TextIO | None = None,
    folder: Path | None = None,
    plain: bool = False,
) -> None:
    """Send the logs of this process to a stream and, with ``folder``, to a file that rotates.

    Loggers of other packages pass through at "warning" and above, redacted like ours: a client
    that logs its own headers at "debug" is never heard.

    Args:
      stream: None = standard error. plain: for people instead of JSON.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(stream or sys.stderr)]
    handlers[0].setFormatter(PlainLines() if plain else JsonLines())
    if folder is not None:
        handlers.append(_file_handler(folder / FILE))
    root = logging.getLogger()
    for handler in list(root.handlers):
        if getattr(handler, "of_live", False):
            root.removeHandler(handler)
            handler.close()
    for handler in handlers:
        handler.of_live = True  # type: ignore[attr-defined]  # marks what a second call replaces
        handler.addFilter(_Fields())
        root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger(ROOT).setLevel(level)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_thread


def _file_handler(path: Path) -> logging.Handler:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
    handler = logging.handlers.RotatingFileHandler(
        path, maxBytes=_FILE_BYTES, backupCount=_FILES, encoding="utf-8"
    )
    handler.setFormatter(JsonLines())
    return handler


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger(ROOT).critical("uncaught error", exc_info=(kind, error, trace))


def _log_thread(given: threading.ExceptHookArgs) -> None:
    if given.exc_value is not None:
        _log_uncaught(given.exc_type, given.exc_value, given.exc_traceback)


@contextlib.contextmanager
def loop_errors(count: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Log what tasks and callbacks of the running loop raise where nobody awaits them.

    Args:
      count: called for each of them, in the thread that found it.
    """
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()

    def handle(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        _log_loop_error(context)
        count()

    loop.set_exception_handler(handle)
    try:
        yield
    finally:
        loop.set_exception_handler(before)


def _log_loop_error(context: Mapping[str, Any]) -> None:
    error, task = context.get("exception"), context.get("task", context.get("future"))
    logging.getLogger(ROOT).error(
        context["message"],
        exc_info=None if error is None else (type(error), error, error.__traceback__),
        extra={"task": task.get_name()} if isinstance(task, asyncio.Task) else None,
    )

"""Faults on demand: what happens to requests, replies and stream messages instead of the normal.

A rule says on which route, what, how often. Routes are paths without the version ("order/create"),
"stream/private" and "stream/public", followed by the topic ("stream/private/order"); a rule of a
stream holds for all its topics, and shell wildcards work everywhere.

before a request is carried out:
  delay_before(seconds)      drop_before_accept()       status(code, body, headers)
  html_502()                 reject(code, message)      rate_limit(reset_ms)
  ban()                      partition(seconds): everything is dropped, streams too
after it was carried out:
  reply_after(seconds)       accept_then_drop()         accept_then_delay(seconds): then drops
  accept_then_status(code, body)    accept_then_garbage(body)    accept_then_html_502()
  mutate_field(path, value)  drop_field(path)           new_enum(path, value)
  stale_snapshot(): the reply that came before
  fill_event_before_reply(): once the streams have told of everything
bars:
  late_bar()                 missing_bar(row)           repeat_bar(row)      revise_bar(row, factor)
  of every frame ("market/kline") or of one ("market/kline/5")
stream messages:
  delay_events(seconds)      duplicate_events()         shuffle_events()     garbage_event(body)
  silence_stream()           drop_stream(close)         mutate_field, drop_field, new_enum
subscriptions:
  delay_ack(milliseconds)    refuse_subscription()      refuse_auth()
"""

from __future__ import annotations

import fnmatch
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

HTML_502 = "<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"

BEFORE, AFTER, STREAM, ACK = "before", "after", "stream", "ack"

_GONE = object()
_BODY = {"path": None, "value": None}
# Action -> where it works, and its arguments with their defaults (None = must be given).
_ACTIONS: Mapping[str, tuple[tuple[str, ...], Mapping[str, Any]]] = MappingProxyType(
    {
        "delay_before": ((BEFORE,), {"seconds": None}),
        "drop_before_accept": ((BEFORE,), {}),
        "status": ((BEFORE,), {"code": None, "body": "", "headers": {}}),
        "html_502": ((BEFORE,), {}),
        "reject": ((BEFORE,), {"code": None, "message": "refused on demand"}),
        "rate_limit": ((BEFORE,), {"reset_ms": 1000}),
        "ban": ((BEFORE,), {}),
        "partition": ((BEFORE, STREAM, ACK), {"seconds": None}),
        "reply_after": ((AFTER,), {"seconds": None}),
        "accept_then_drop": ((AFTER,), {}),
        "accept_then_delay": ((AFTER,), {"seconds": 30.0}),
        "accept_then_status": ((AFTER,), {"code": 502, "body": ""}),
        "accept_then_garbage": ((AFTER,), {"body": "{"}),
        "accept_then_html_502": ((AFTER,), {}),
        "mutate_field": ((AFTER, STREAM), _BODY),
        "new_enum": ((AFTER, STREAM), {**_BODY, "value": "BrandNew"}),
        "drop_field": ((AFTER, STREAM), {"path": None}),
        "stale_snapshot": ((AFTER,), {}),
        "fill_event_before_reply": ((AFTER,), {}),
        "late_bar": ((AFTER,), {}),
        "missing_bar": ((AFTER,), {"row": 2}),
        "repeat_bar": ((AFTER,), {"row": 1}),
        "revise_bar": ((AFTER,), {"row": 1, "factor": 1.001}),
        "delay_events": ((STREAM,), {"seconds": None}),
        "duplicate_events": ((STREAM,), {}),
        "shuffle_events": ((STREAM,), {}),
        "garbage_event": ((STREAM,), {"body": "{"}),
        "silence_stream": ((STREAM,), {}),
        "drop_stream": ((STREAM,), {"close": False}),
        "delay_ack": ((ACK,), {"milliseconds": None}),
        "refuse_subscription": ((ACK,), {}),
        "refuse_auth": ((ACK,), {}),
    }
)


@dataclass(eq=False)
class Rule:
    """One fault in waiting.

    Attributes:
      left: how often it may still happen, None = always. hits: how often it has happened.
      skip: matching messages that still pass unharmed.
    """

    route: str
    action: str
    left: int | None
    probability: float
    skip: int
    arguments: Mapping[str, Any]
    until: float | None = None
    hits: int = 0

    @property
    def stages(self) -> tuple[str, ...]:
        """Where it works."""
        return _ACTIONS[self.action][0]

    def matches(self, route: str) -> bool:
        """Whether a route is meant."""
        return fnmatch.fnmatchcase(route, self.route) or route.startswith(self.route + "/")


@dataclass
class Faults:
    """The faults of one server; safe to use from any thread.

    Args:
      seed: of the draws against ``probability``. monotonic: real seconds.
    """

    seed: int = 0
    monotonic: Callable[[], float] = time.monotonic
    rules: list[Rule] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 - which reply to spoil
        self._lock = threading.Lock()

    def add(
        self,
        route: str,
        action: str,
        count: int | None = 1,
        *,
        probability: float = 1.0,
        skip: int = 0,
        **arguments: Any,
    ) -> Rule:
        """From now on, spoil ``count`` (None = all) messages of a route.

        Args:
          probability: chance that a matching message is spoilt at all.
          skip: matching messages to let pass first.
          arguments: of the action, see the module.

        Raises:
          ValueError: an unknown action or argument, or one is missing.
        """
        if action not in _ACTIONS:
            raise ValueError(f"action: expected one of {sorted(_ACTIONS)}; got {action!r}.")
        given = {**_ACTIONS[action][1], **arguments}
        missing = sorted(name for name, value in given.items() if value is None)
        unknown = sorted(set(given) - set(_ACTIONS[action][1]))
        if unknown or (missing and missing != ["value"]):
            expected = sorted(_ACTIONS[action][1])
            raise ValueError(f"{action}: expected the arguments {expected}; got {arguments!r}.")
        rule = Rule(route, action, count, probability, skip, MappingProxyType(given))
        if action == "partition":
            rule.left, rule.until = None, self.monotonic() + given["seconds"]
        with self._lock:
            self.rules.append(rule)
        return rule

    def clear(self) -> None:
        """Forget every rule."""
        with self._lock:
            self.rules.clear()

    def take(self, route: str, stage: str) -> list[Rule]:
        """The rules that a message now meets, oldest first; each counts as a hit."""
        with self._lock:
            now = self.monotonic()
            self.rules = [rule for rule in self.rules if rule.until is None or now < rule.until]
            met = [
                rule
                for rule in self.rules
                if stage in rule.stages and rule.matches(route) and self._strikes(rule)
            ]
            self.rules = [rule for rule in self.rules if rule.left != 0]
            return met

    def _strikes(self, rule: Rule) -> bool:
        if self._random.random() >= rule.probability:
            return False
        if rule.skip:
            rule.skip -= 1
            return False
        if rule.left is not None:
            rule.left -= 1
        rule.hits += 1
        return True


def spoil_body(body: Any, rules: Iterable[Rule]) -> Any:
    """A reply or message (plain JSON values) after the rules that change fields and bars."""
    for rule in rules:
        given = rule.arguments
        match rule.action:
            case "mutate_field" | "new_enum":
                _change(body, given["path"], given["value"])
            case "drop_field":
                _change(body, given["path"], _GONE)
            case "late_bar" | "missing_bar" | "repeat_bar" | "revise_bar":
                _spoil_bars(body, rule.action, given)
    return body


def _spoil_bars(body: Any, action: str, given: Mapping[str, Any]) -> None:
    """Change rows of bars, newest first, in place."""
    rows: list[list[str]] = body["result"]["list"]
    row = given.get("row", 0)
    if row >= len(rows):
        return
    match action:
        case "late_bar":  # the exchange has not noticed that the newest bar is over
            begun = [int(one[0]) for one in rows[:2]]
            # A page of older bars does not know of it anyhow.
            if len(begun) == 2 and 2 * begun[0] - begun[1] > body["time"]:
                del rows[:2]
        case "missing_bar":
            del rows[row]
        case "repeat_bar":
            rows.insert(row, list(rows[row]))
        case "revise_bar":
            close = float(rows[row][4]) * given["factor"]
            high, low = max(float(rows[row][2]), close), min(float(rows[row][3]), close)
            rows[row][2:5] = [repr(high), repr(low), repr(close)]


def _change(body: Any, path: str, value: Any) -> None:
    """Set, or (_GONE) remove, what a dotted path names; where there is no such place, nothing."""
    *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
    try:
        for part in parents:
            body = body[part]
        if value is _GONE:
            del body[last]
        else:
            body[last] = value
    except (KeyError, IndexError, TypeError):
        return

"""Bybit on the wire: pybit with its retries off, rate limits, deadlines, and what a failure means.

Reads are repeated inside their deadline; whatever could change something is sent once. Keys stay
inside: no error, event or representation made here contains one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any, assert_never

from live import crash
from live.clock import Clock
from live.secrets import Secret, redact
from live.types import Ambiguous, Category, Certainty, Definitive, Outcome, UnreadableError
from live.venues import bybit_sdk, codes
from live.venues.bybit_parse import VENUE, Envelope, envelope
from live.venues.bybit_wire import (
    ADDRESS,
    ADDRESS_LIMIT,
    ENDPOINTS,
    LOOKED_AT,
    Hosts,
    Timeouts,
)
from live.venues.cage import Cage, NeverBegan, Overdue, Raised, Returned, never_left
from live.venues.circuit import CircuitConfig, Circuits, Verdict
from live.venues.codes import Operation
from live.venues.rate import Lane, Limiter, RateConfig, RateLimitedError

_DETAIL = 200  # characters of a venue's message that are kept
# How the SDK reports a body that is no JSON, and what a gateway says instead of an answer.
_UNREADABLE, _TIMED_OUT, _BROKEN = 409, 408, 500

# HTTP errors of a read that asking again does not help.
_FINAL = {
    401: (Category.AUTH, ", the key is not accepted"),
    403: (Category.THROTTLED, ""),
    404: (Category.NOT_FOUND, ""),
}

for _operation in set(Operation) - {Operation.READ}:
    crash.register(f"{VENUE}.{_operation}", crash.SEND_POINTS)


class BybitClient:
    """One key at one environment of Bybit; shared by every symbol.

    Args:
      api_key, api_secret: None = only what is public.
      seed: of the jitter between repetitions. circuit: when reads of a route are held up.

    Attributes:
      circuits: one for each route, so that a broken one blinds no other.
    """

    def __init__(
        self,
        api_key: Secret | None,
        api_secret: Secret | None,
        hosts: Hosts,
        *,
        demo: bool,
        clock: Clock,
        rate: RateConfig,
        timeouts: Timeouts,
        seed: int = 0,
        circuit: CircuitConfig | None = None,
    ) -> None:
        self.hosts = hosts
        self.timeouts = timeouts
        self._clock = clock
        self.has_keys = api_key is not None and api_secret is not None
        limits = {name: end.limit for name, end in ENDPOINTS.items()}
        self.limiter = Limiter({**limits, ADDRESS: ADDRESS_LIMIT}, rate, clock)
        self.circuits = Circuits(VENUE, circuit or CircuitConfig(), clock)
        self._table = codes.load(VENUE)
        self._jitter = random.Random(seed)  # noqa: S311  # spreads requests, keeps no secret
        self.cage = Cage(VENUE)
        self._errors, http = bybit_sdk.load()
        keys = {}
        if api_key is not None and api_secret is not None:
            keys = {"api_key": api_key.reveal(), "api_secret": api_secret.reveal()}
        self._reading = bybit_sdk.session(
            http, keys, hosts, demo, (timeouts.connect, timeouts.read)
        )
        self._changing = bybit_sdk.session(
            http, keys, hosts, demo, (timeouts.connect, timeouts.submit)
        )

    def __repr__(self) -> str:
        return f"BybitClient({self.hosts.rest!r})"

    def close(self) -> None:
        """Release threads and connections."""
        self.cage.close()
        for session in (self._reading, self._changing):
            session.client.close()

    # Reads ---------------------------------------------------------------------------------------

    async def read(
        self, what: str, query: Mapping[str, object] | None = None, *, lane: Lane = Lane.NORMAL
    ) -> Envelope:
        """Ask, and ask again inside the deadline while that may help.

        What must not wait, in the reserved lane or for a look, passes an open circuit.

        Raises:
          UnreadableError: no answer that counts, or the circuit is open; a
            `codes.RefusedReadError` says why it is final.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.timeouts.read_deadline
        pause = 0.25
        while True:
            answer = await self._ask(what, lane, query or {}, deadline - loop.time())
            if isinstance(answer, Envelope):
                return answer
            if isinstance(answer, UnreadableError):
                raise answer
            wait = self._jitter.uniform(0, pause)
            if not loop.time() + wait < deadline:
                raise codes.unread(f"{VENUE} {what}", self.hosts.rest, answer)
            await asyncio.sleep(wait)
            pause = min(2 * pause, 4.0)

    async def _ask(
        self, what: str, lane: Lane, query: Mapping[str, object], within: float
    ) -> Envelope | UnreadableError | str:
        """One attempt: the reply, an error that is final, or why it may be worth another."""
        attempt = self.circuits.begin(what, always=lane is Lane.RESERVED or what in LOOKED_AT)
        if attempt is None:
            return self.circuits.said(what)
        answer: Envelope | UnreadableError | str = ""
        verdict = Verdict.NOTHING
        try:
            answer, verdict = await self._try(what, lane, query, within)
        finally:  # a caller that gives up must not keep the place of the probe
            self.circuits.end(what, attempt, verdict, answer if isinstance(answer, str) else "")
        return answer

    async def _try(
        self, what: str, lane: Lane, query: Mapping[str, object], within: float
    ) -> tuple[Envelope | UnreadableError | str, Verdict]:
        """As `_ask`, and what it tells of the route."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        try:
            await self._pass(what, lane, within)
        except RateLimitedError as error:
            text = f"{VENUE} {what}: {error}"
            return codes.RefusedReadError(text, Category.THROTTLED, "rate"), Verdict.NOTHING
        function = getattr(self._reading, ENDPOINTS[what].function)
        ending = await self.cage.call(
            lambda: function(**query), lane=lane, within=max(deadline - loop.time(), 0.0)
        )
        match ending:
            case Returned(value):
                try:
                    return self._envelope(what, value), Verdict.GOOD
                except UnreadableError as error:  # perhaps the next one is whole
                    return _short(error), Verdict.BAD
            case Raised(failure):
                return self._failed_read(what, failure)
            case NeverBegan():
                return "no thread was free in time", Verdict.NOTHING
            case Overdue(seconds):
                # Where our own queues left no time for an answer, the venue is not to blame.
                fair = seconds >= self.timeouts.connect
                return "no reply in time", Verdict.BAD if fair else Verdict.NOTHING
            case _:
                assert_never(ending)

    def _failed_read(
        self, what: str, error: BaseException
    ) -> tuple[UnreadableError | str, Verdict]:
        if isinstance(error, self._errors.InvalidRequestError):
            self._heed(what, Operation.READ, error)
            detail = _short(error.message)
            final = self._table.refusal(error.status_code, what, detail)
            if final is not None:
                return final, Verdict.GOOD
            return f"code {error.status_code}: {detail}", Verdict.NOTHING
        if isinstance(error, self._errors.FailedRequestError):
            self._heed(what, Operation.READ, error)
            status = error.status_code
            if status in _FINAL:
                category, says = _FINAL[status]
                text = f"{VENUE} {what}: HTTP {status}{says}"
                return codes.RefusedReadError(text, category, str(status)), Verdict.NOTHING
            bad = status >= _BROKEN or status in (_UNREADABLE, _TIMED_OUT)
            return f"HTTP {status}", Verdict.BAD if bad else Verdict.NOTHING
        if isinstance(error, PermissionError):
            text = f"{VENUE} {what}: needs an API key and its secret."
            return UnreadableError(text), Verdict.NOTHING
        return type(error).__name__, Verdict.BAD

    # Changes -------------------------------------------------------------------------------------

    async def send(
        self, what: str, operation: Operation, body: Mapping[str, object], *, lane: Lane
    ) -> Envelope | Outcome:
        """Send a change once: the venue's good reply, or what is certain about it."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.timeouts.submit_deadline
        patience = self.timeouts.submit_deadline - self.timeouts.connect - self.timeouts.submit
        try:
            await self._pass(what, lane, patience)
        except RateLimitedError as error:
            return _not_sent(str(error), Category.THROTTLED)
        function = getattr(self._changing, ENDPOINTS[what].function)
        crash.point(f"{VENUE}.{operation}.before")
        ending = await self.cage.call(
            lambda: function(**body), lane=lane, within=max(deadline - loop.time(), 0.0)
        )
        crash.point(f"{VENUE}.{operation}.after")
        match ending:
            case Returned(value):
                try:
                    return self._envelope(what, value)
                except UnreadableError as error:
                    return Ambiguous(_short(error))
            case Raised(failure):
                return self._failed_change(what, operation, failure)
            case NeverBegan():
                return _not_sent("no thread was free in time", Category.THROTTLED)
            case Overdue():
                return Ambiguous(f"{VENUE} {what}: no reply in time")
            case _:
                assert_never(ending)

    def _failed_change(self, what: str, operation: Operation, error: BaseException) -> Outcome:
        if isinstance(error, self._errors.InvalidRequestError):
            self._heed(what, operation, error)
            detail = _short(error.message)
            return self._table.outcome(error.status_code, operation, detail)
        if isinstance(error, self._errors.FailedRequestError):
            self._heed(what, operation, error)
            return Ambiguous(f"{VENUE} {what}: HTTP {error.status_code}")
        if isinstance(error, PermissionError):  # raised by the SDK before it connects
            return _not_sent("needs an API key and its secret", Category.AUTH)
        if never_left(error):
            return _not_sent(f"{type(error).__name__}: no connection was made", Category.OTHER)
        return Ambiguous(f"{VENUE} {what}: {type(error).__name__}")

    # Limits --------------------------------------------------------------------------------------

    async def _pass(self, what: str, lane: Lane, within: float) -> None:
        await self.limiter.acquire((ADDRESS, what), lane=lane, within=max(within, 0.0))

    def _envelope(self, what: str, value: Any) -> Envelope:
        """The reply of the SDK, which is asked to return the headers too."""
        if not isinstance(value, tuple) or len(value) != 3:
            raise UnreadableError(f"{VENUE} {what}: the SDK returned no reply with headers.")
        self._told(what, value[2])
        return envelope(value[0], what)

    def _heed(self, what: str, operation: Operation, error: Any) -> None:
        """What an error says about limits."""
        headers = error.resp_headers if isinstance(error.resp_headers, Mapping) else {}
        self._told(what, headers)
        reset = _header(headers, "X-Bapi-Limit-Reset-Timestamp")
        after = _header(headers, "Retry-After")
        if reset is None and after is not None:
            reset = self._clock.now_ms() + 1000 * after
        if error.status_code in (403, 10403):
            self.limiter.ban(f"{VENUE} code {error.status_code}", reset)
        elif error.status_code == 429 or self._table.throttled(error.status_code, operation):
            self.limiter.tell(what, remaining=0, reset_ms=reset)

    def _told(self, what: str, headers: Any) -> None:
        remaining = _header(headers, "X-Bapi-Limit-Status")
        if remaining is None:
            return
        self.limiter.tell(
            what,
            remaining=remaining,
            requests=_header(headers, "X-Bapi-Limit"),
            reset_ms=_header(headers, "X-Bapi-Limit-Reset-Timestamp"),
        )


def _not_sent(detail: str, category: Category) -> Definitive:
    return Definitive(Certainty.NOT_SENT, category=category, detail=detail)


def _short(text: object) -> str:
    """A short text without the keys: one refusal of this venue repeats them."""
    shown = redact(str(text))
    return shown if len(shown) <= _DETAIL else shown[: _DETAIL - 3] + "..."


def _header(headers: Any, name: str) -> float | None:
    try:
        return float(headers.get(name))
    except (AttributeError, TypeError, ValueError):
        return None

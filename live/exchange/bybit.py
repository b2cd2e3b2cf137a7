"""Bybit v5 over HTTP: routes, replies, and the faults of a request on its way."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from live.exchange import bybit_deadman as deadman
from live.exchange import bybit_market as market
from live.exchange import bybit_private as private
from live.exchange import faults as fault
from live.exchange.book import RefusedError
from live.exchange.bybit_access import Access, Limiter, limit_headers
from live.exchange.bybit_wire import BybitError, Params, envelope, refusal_error
from live.exchange.engine import Engine
from live.exchange.faults import Faults, Rule

PREFIX = "/v5/"
Handler = Callable[[Engine, Params], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint.

    Attributes:
      limit: requests per second, 0 = public. permission: of the key, empty = reading.
    """

    handler: Handler
    limit: int = 0
    permission: str = ""


ROUTES: Mapping[tuple[str, str], Route] = {
    ("GET", "market/time"): Route(market.server_time),
    ("GET", "market/instruments-info"): Route(market.instruments_info),
    ("GET", "market/tickers"): Route(market.tickers),
    ("GET", "market/kline"): Route(market.kline),
    ("GET", "market/mark-price-kline"): Route(market.mark_price_kline),
    ("POST", "order/create"): Route(private.create, 10, "Order"),
    ("POST", "order/amend"): Route(private.amend, 10, "Order"),
    ("POST", "order/cancel"): Route(private.cancel, 10, "Order"),
    ("POST", "order/cancel-all"): Route(private.cancel_all, 10, "Order"),
    ("GET", "order/realtime"): Route(private.realtime, 50),
    ("GET", "order/history"): Route(private.history, 50),
    ("GET", "execution/list"): Route(private.executions, 50),
    ("GET", "position/list"): Route(private.positions, 50),
    ("POST", "position/trading-stop"): Route(private.trading_stop, 10, "Position"),
    ("POST", "position/set-leverage"): Route(private.set_leverage, 10, "Position"),
    ("POST", "position/switch-mode"): Route(private.switch_mode, 10, "Position"),
    ("POST", "position/switch-isolated"): Route(private.switch_isolated, 10, "Position"),
    ("GET", "account/wallet-balance"): Route(private.wallet_balance, 50),
    ("GET", "account/info"): Route(private.account_info, 50),
    ("POST", "account/set-margin-mode"): Route(private.set_margin_mode, 5, "Position"),
    ("GET", "account/fee-rate"): Route(private.fee_rate, 10),
    ("GET", "account/query-dcp-info"): Route(deadman.info, 10),
    ("POST", "order/disconnected-cancel-all"): Route(deadman.set_window, 10, "Order"),
}
_KEY_INFORMATION = ("GET", "user/query-api")
# How long a reply waits for its events at most, and how long clients get to read them.
_TOLD_SECONDS, _LEAD_SECONDS = 1.0, 0.05
# Of one address, whatever it asks for: more is answered with HTTP 403.
_ADDRESS, _ADDRESS_REQUESTS, _ADDRESS_SECONDS = "address", 600, 5.0


class BybitHttp:
    """The HTTP half of the venue.

    Args:
      catch_up: brings the engine to the exchange's time before a request is answered.
      told: returns once the streams have sent what has happened so far.
    """

    def __init__(
        self,
        engine: Engine,
        faults: Faults,
        access: Access,
        *,
        rate_limits: bool,
        catch_up: Callable[[], None],
        told: Callable[[], Awaitable[None]],
    ) -> None:
        self._engine = engine
        self._faults = faults
        self._access = access
        self._limiter = Limiter(rate_limits)
        self._address = Limiter(rate_limits, seconds=_ADDRESS_SECONDS)
        self._catch_up, self._told = catch_up, told
        self._last: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        # Those that came too fast.
        self.throttled: list[str] = []

    def register(self, application: web.Application) -> None:
        """Add the routes."""
        application.router.add_route("*", PREFIX + "{name:.*}", self._handle)

    def _shown_ms(self) -> int:
        """The time that replies show: a limit ends by the clock that a client measures."""
        return self._engine.now_ms + self._engine.offset_ms

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        name, body = request.path[len(PREFIX) :], await request.text()
        self.requests.append(name)
        for rule in self._faults.take(_fault_route(request, name), fault.BEFORE):
            spoilt = await self._before(rule, request)
            if spoilt is not None:
                return spoilt
        passes, _ = self._address.take(_ADDRESS, _ADDRESS_REQUESTS, self._access.now_ms())
        if not passes:
            self.throttled.append(name)
            return _plain(403, "access too frequent", {})
        reply, headers = self._answer(request, name, body)
        if reply is None:
            return web.Response(status=404, text="404 page not found")
        return await self._after(request, _fault_route(request, name), reply, headers)

    def reply(self, route: str) -> dict[str, Any]:
        """The newest unspoilt reply of a route, of bars of a frame; a copy."""
        return copy.deepcopy(self._last[route])

    # The normal course ----------------------------------------------------------------------------

    def _answer(
        self, request: web.Request, name: str, body: str
    ) -> tuple[dict[str, Any] | None, dict[str, str]]:
        """The reply and its headers; no reply where there is no such route."""
        route = ROUTES.get((request.method, name))
        if (request.method, name) == _KEY_INFORMATION:
            route = Route(lambda engine, params: self._access.describe(), 10)
        if route is None:
            return None, {}
        headers: dict[str, str] = {}
        with self._engine.turn():
            self._catch_up()
            try:
                params = self._read(request, body)
                if route.limit:
                    headers = self._admit(request, name, route, body)
                code, message, result = 0, "OK", route.handler(self._engine, params)
            except RefusedError as error:
                refused = refusal_error(error)
                code, message, result = refused.code, refused.message, {}
            except BybitError as error:
                code, message, result = error.code, error.message, {}
                if code == 10006:
                    self.throttled.append(name)
                    headers = limit_headers(route.limit, 0, self._shown_ms() + 1000)
            return envelope(code, message, result, self._engine.shown_ms), headers

    def _read(self, request: web.Request, body: str) -> Params:
        if request.method == "GET":
            return Params(dict(request.query))
        try:
            values = json.loads(body)
        except json.JSONDecodeError as error:
            raise BybitError(10001, "Request parameter error.") from error
        if not isinstance(values, dict):
            raise BybitError(10001, "Request parameter error.")
        return Params(values)

    def _admit(self, request: web.Request, name: str, route: Route, body: str) -> dict[str, str]:
        """Verify key, permission and rate; returns the rate-limit headers."""
        _, _, query = request.raw_path.partition("?")
        self._access.check(request.headers, query if request.method == "GET" else body)
        self._access.check_permission(route.permission)
        passes, headers = self._limiter.take(name, route.limit, self._shown_ms())
        if not passes:
            raise BybitError(10006, "Too many visits. Exceeded the API Rate Limit.")
        return headers

    # Faults ---------------------------------------------------------------------------------------

    async def _before(self, rule: Rule, request: web.Request) -> web.Response | None:
        """Let a fault answer instead; None = go on."""
        given = rule.arguments
        match rule.action:
            case "delay_before":
                await asyncio.sleep(given["seconds"])
                return None
            case "drop_before_accept" | "partition":
                return _drop(request)
            case "status":
                return _plain(given["code"], given["body"], given["headers"])
            case "html_502":
                return _plain(502, fault.HTML_502, {"Content-Type": "text/html"})
            case "ban":
                return _plain(403, "access too frequent", {})
            case "rate_limit":
                reset = limit_headers(10, 0, self._shown_ms() + given["reset_ms"])
                return self._refuse(10006, "Too many visits. Exceeded the API Rate Limit.", reset)
            case "reject":
                return self._refuse(given["code"], given["message"], {})
        return None

    def _refuse(self, code: int, message: str, headers: dict[str, str]) -> web.Response:
        reply = envelope(code, message, {}, self._engine.shown_ms)
        return web.json_response(reply, headers=headers)

    async def _after(
        self, request: web.Request, name: str, reply: dict[str, Any], headers: dict[str, str]
    ) -> web.Response:
        """Send the reply, or what faults make of it."""
        before, self._last[name] = self._last.get(name, reply), reply
        rules = self._faults.take(name, fault.AFTER)
        if rules:  # what they change is not what was said
            reply = copy.deepcopy(reply)
        for rule in rules:
            given = rule.arguments
            match rule.action:
                case "reply_after":
                    await asyncio.sleep(given["seconds"])
                case "accept_then_drop":
                    return _drop(request)
                case "accept_then_delay":
                    await asyncio.sleep(given["seconds"])
                    return _drop(request)
                case "accept_then_status":
                    return _plain(given["code"], given["body"], {})
                case "accept_then_html_502":
                    return _plain(502, fault.HTML_502, {"Content-Type": "text/html"})
                case "accept_then_garbage":
                    return _plain(200, given["body"], {"Content-Type": "application/json"})
                case "stale_snapshot":
                    reply = copy.deepcopy(before)
                case "fill_event_before_reply":
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._told(), _TOLD_SECONDS)
                    await asyncio.sleep(_LEAD_SECONDS)
        return web.json_response(fault.spoil_body(reply, rules), headers=headers)


def _fault_route(request: web.Request, name: str) -> str:
    """What faults call a route: bars have one for each frame, "market/kline/5"."""
    interval = request.query.get("interval")
    return name if interval is None else f"{name}/{interval}"


def _plain(status: int, body: str, headers: Mapping[str, str]) -> web.Response:
    return web.Response(status=status, body=body.encode(), headers=headers)


def _drop(request: web.Request) -> web.Response:
    """Cut the connection; the response goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()

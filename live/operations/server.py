"""The operations page: health, metrics, status and the emergency buttons, over HTTP.

Off unless configured, and on this machine alone unless a certificate is. What is shown comes from a
`live.operations.answers.StatusSource`; everything that leaves passes `live.secrets.redact`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import importlib.resources
import json
import logging
import math
import re
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from jaxtrade.extras import missing_extra
from live.config.tables import ServerConfig, loopback
from live.mailbox import check_reason
from live.operations.answers import StatusSource, answer
from live.secrets import Tokens, redact

try:
    from aiohttp import web
except ImportError as error:
    raise missing_extra("live server", "aiohttp", "live") from error

_log = logging.getLogger("live.operations.server")

COMMANDS = ("halt", "reduce", "flatten", "stop")
BODY_BYTES = 16 * 1024
ALIVE_SECONDS = 5.0
COMMAND_SECONDS = 15.0
# Wrong tokens answered per minute; the right one is never kept waiting for somebody else's guesses.
WRONG_TOKENS, WRONG_TOKENS_SECONDS = 10, 60.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class OperationsServer:
    """Serves one daemon.

    Example:
      >>> async with OperationsServer(source, config, tokens).running() as url: ...
    """

    def __init__(
        self,
        source: StatusSource,
        config: ServerConfig,
        tokens: Tokens,
        *,
        metrics: Callable[[], bytes] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Build it; nothing listens before `running`.

        Args:
          metrics: `live.operations.metrics.Metrics.render`.
          monotonic: seconds, for the limit of wrong tokens.
        """
        self._source, self._config, self._tokens = source, config, tokens
        self._metrics, self._monotonic = metrics, monotonic
        self._wrong: deque[float] = deque()
        self._tasks: set[asyncio.Future[Any]] = set()
        page = importlib.resources.files("live.operations").joinpath("page.html").read_text("utf-8")
        self._page, self._policy = page, _content_policy(page)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Listen; gives the address.

        Raises:
          ValueError: the port is taken, or the certificate cannot be used.
        """
        app = web.Application(client_max_size=BODY_BYTES, middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/", self._index),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/status", self._status),
                web.get("/metrics", self._render_metrics),
                *(web.post(f"/{name}", self._command) for name in COMMANDS),
            ]
        )
        # Nothing of a request is logged: its headers hold a token.
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        try:
            yield await self._listen(runner)
        finally:
            await runner.cleanup()

    async def _listen(self, runner: web.AppRunner) -> str:
        config = self._config
        site = web.TCPSite(runner, config.host, config.port, ssl_context=self._tls())
        try:
            await site.start()
        except OSError as error:
            raise ValueError(
                f"[server] port: cannot listen on {config.host}:{config.port} "
                f"({error.strerror or error}); choose another, 0 takes any free one"
            ) from None
        port = runner.addresses[0][1]
        host = f"[{config.host}]" if ":" in config.host.strip("[]") else config.host
        return f"{'http' if config.certificate is None else 'https'}://{host}:{port}"

    def _tls(self) -> ssl.SSLContext | None:
        config = self._config
        if config.certificate is None or config.certificate_key is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(config.certificate, config.certificate_key)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"[server] certificate: cannot be used ({error})") from None
        return context

    # Requests ---------------------------------------------------------------------------------

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Headers of every answer; errors as JSON without detail; no other site's requests."""
        try:
            if not self._host_fits(request):
                response: web.StreamResponse = answer(403, {"error": "unknown host"})
            else:
                response = await handler(request)
        except web.HTTPException as error:
            response = answer(error.status, {"error": error.reason})
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
        response.headers.update(
            {
                "Content-Security-Policy": self._policy,
                "Cache-Control": "no-store",
                "X-Content-Type-Options": "nosniff",
                "X-Frame-Options": "DENY",
                "Referrer-Policy": "no-referrer",
                "Cross-Origin-Resource-Policy": "same-origin",
            }
        )
        return response

    def _host_fits(self, request: web.Request) -> bool:
        """On this machine only its own names: a site that resolves to 127.0.0.1 is another's."""
        if self._config.certificate is not None:
            return True
        name = re.sub(r":\d+$", "", request.host)
        return name == self._config.host or loopback(name)

    def _access(self, request: web.Request) -> str | None:
        """What the request's token allows: "control", "read", or None."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            # Both are compared, so that time tells nothing.
            control, read = self._tokens.control.matches(token), self._tokens.read.matches(token)
            if control or read:
                return "control" if control else "read"
        return None

    def _refuse(self, request: web.Request) -> web.Response:
        now = self._monotonic()
        while self._wrong and now - self._wrong[0] > WRONG_TOKENS_SECONDS:
            self._wrong.popleft()
        if len(self._wrong) >= WRONG_TOKENS:
            wait = math.ceil(self._wrong[0] + WRONG_TOKENS_SECONDS - now)
            return answer(429, {"error": "too many wrong tokens"}, {"Retry-After": str(wait)})
        self._wrong.append(now)
        _log.warning("wrong or missing token", extra={"path": request.path, "peer": request.remote})
        return answer(401, {"error": "token missing or wrong"}, {"WWW-Authenticate": "Bearer"})

    async def _index(self, request: web.Request) -> web.Response:
        return web.Response(text=self._page, content_type="text/html")

    async def _healthz(self, request: web.Request) -> web.Response:
        age = self._source.tick_age()
        alive = age < ALIVE_SECONDS  # false for NaN too
        return answer(200 if alive else 503, {"alive": alive, "tick_age_seconds": age})

    async def _readyz(self, request: web.Request) -> web.Response:
        ready, reasons = self._source.ready()
        return answer(200 if ready else 503, {"ready": ready, "reasons": list(reasons)})

    async def _status(self, request: web.Request) -> web.Response:
        access = self._access(request)
        if access is None:
            return self._refuse(request)
        ready, reasons = self._source.ready()
        extra = {"access": access, "ready": ready, "not_ready": list(reasons)}
        wanted = request.query.get("symbol")
        try:
            found = self._source.status() if wanted is None else self._source.status(wanted)
        except ValueError as error:
            return answer(404, {"error": str(error)})
        return answer(200, {**found, **extra})

    async def _render_metrics(self, request: web.Request) -> web.Response:
        if self._access(request) is None:
            return self._refuse(request)
        if self._metrics is None:
            return answer(404, {"error": "no metrics"})
        text = redact(self._metrics().decode())
        return web.Response(
            body=text.encode(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    async def _command(self, request: web.Request) -> web.Response:
        access = self._access(request)
        if access is None:
            return self._refuse(request)
        if access != "control":
            return answer(403, {"error": "needs the control token"})
        name = request.path.removeprefix("/")
        try:
            body = json.loads(await request.read() or b"{}")
            reason = check_reason(body.get("reason", "") if isinstance(body, dict) else "")
        except (ValueError, AttributeError):
            return answer(400, {"error": 'expected {"reason": "text"}'})
        _log.warning("command", extra={"command": name, "reason": reason, "peer": request.remote})
        task = asyncio.ensure_future(self._source.command(name, reason))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:  # a browser that leaves, or an answer that takes long, must not end a flatten
            result = await asyncio.wait_for(asyncio.shield(task), COMMAND_SECONDS)
        except ValueError as error:
            return answer(409, {"error": str(error)})
        except TimeoutError:
            return answer(504, {"error": f"{name} was given, is not done yet; watch the status"})
        return answer(202, {"accepted": True, **result})


def _content_policy(page: str) -> str:
    """Only the page's own script and style run, and only this server is asked."""
    hashes = {}
    for tag in ("script", "style"):
        bodies = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(b.encode()).digest()).decode() for b in bodies]
        hashes[tag] = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )

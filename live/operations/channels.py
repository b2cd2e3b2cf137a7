"""Where messages go: a webhook, a chat, and a monitor that is only told that the process lives."""

from __future__ import annotations

from typing import Any, Protocol

from jaxtrade.extras import missing_extra
from live.operations.messages import Message
from live.secrets import Secret, remember

try:
    import aiohttp
except ImportError as error:
    raise missing_extra("live trading", "aiohttp", "live") from error

TELEGRAM = "https://api.telegram.org"


class UndeliveredError(Exception):
    """A channel did not take a message; the reason holds no address."""


class Channel(Protocol):
    """Where messages go.

    Attributes:
      name: for log lines.
    """

    name: str

    async def deliver(self, message: Message) -> None:
        """Hand one message over.

        Raises:
          UndeliveredError: it did not arrive.
        """


class _Caller:
    """HTTP requests whose failures name neither address nor body."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def call(self, method: str, url: str, body: dict[str, Any] | None = None) -> None:
        try:
            async with self._session.request(
                method, url, json=body, allow_redirects=False
            ) as response:
                if response.status >= 300:
                    raise UndeliveredError(f"HTTP status {response.status}")
        except (aiohttp.ClientError, OSError) as error:
            # The text of these errors contains the address.
            raise UndeliveredError(type(error).__name__) from None


class Webhook:
    """Posts every message as JSON: text, kind, symbol, repeated, strategy."""

    name = "webhook"

    def __init__(self, session: aiohttp.ClientSession, url: str, strategy_id: str) -> None:
        remember(url)
        self._caller, self._url, self._strategy = _Caller(session), url, strategy_id

    async def deliver(self, message: Message) -> None:
        """Hand one message over.

        Raises:
          UndeliveredError: it did not arrive.
        """
        body = {
            "text": f"{self._strategy}: {message.line}",
            "kind": message.kind.value,
            "symbol": message.symbol,
            "repeated": message.repeated,
            "strategy": self._strategy,
        }
        await self._caller.call("POST", self._url, body)


class Telegram:
    """Sends every message to one chat."""

    name = "telegram"

    def __init__(
        self, session: aiohttp.ClientSession, token: Secret, chat: str, strategy_id: str
    ) -> None:
        self._caller, self._token, self._chat = _Caller(session), token, chat
        self._strategy = strategy_id

    async def deliver(self, message: Message) -> None:
        """Hand one message over.

        Raises:
          UndeliveredError: it did not arrive.
        """
        body = {"chat_id": self._chat, "text": f"{self._strategy}: {message.line}"}
        await self._caller.call("POST", f"{TELEGRAM}/bot{self._token.reveal()}/sendMessage", body)


class Monitor:
    """An address that wants to be asked for again and again, and tells when nobody does."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        remember(url)
        self._caller, self._url = _Caller(session), url

    async def ping(self) -> None:
        """Ask for it once.

        Raises:
          UndeliveredError: it did not answer well.
        """
        await self._caller.call("GET", self._url)

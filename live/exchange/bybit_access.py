"""Who may use the Bybit interface: keys, signatures, the time window, permissions, rate limits."""

from __future__ import annotations

import hashlib
import hmac
import random
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from live.exchange.bybit_wire import BybitError

# Future timestamps that the venue tolerates, milliseconds.
_AHEAD_MS = 1000
_WINDOW_SECONDS = 1.0

PERMISSIONS: Mapping[str, tuple[str, ...]] = {
    "ContractTrade": ("Order", "Position"),
    "Spot": (),
    "Wallet": (),
    "Options": (),
    "Derivatives": (),
    "Exchange": (),
}


def sign(secret: str, message: str) -> str:
    """The venue's signature, hex."""
    return hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()


@dataclass(repr=False)
class Access:
    """The one account of the server and its key.

    Attributes:
      wall_ms: the clock that signatures are checked against. offset_ms: added to it.
    """

    seed: int
    wall_ms: Callable[[], int]
    offset_ms: int = 0
    revoked: bool = False
    permissions: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(PERMISSIONS))

    def __post_init__(self) -> None:
        draw = random.Random(f"keys {self.seed}")  # noqa: S311 - keys of a simulation
        self.api_key = f"{draw.getrandbits(72):018x}"
        self.api_secret = f"{draw.getrandbits(144):036x}"
        self.account_id = str(draw.randrange(10**7, 10**8))

    def now_ms(self) -> int:
        """The time signatures must carry."""
        return self.wall_ms() + self.offset_ms

    def check(self, headers: Mapping[str, str], payload: str) -> None:
        """Verify a signed request; ``payload`` is its raw query or raw body.

        Raises:
          BybitError: 10003 key, 10002 time window, 10004 signature, 10001 missing headers.
        """
        names = ("Api-Key", "Timestamp", "Recv-Window", "Sign")
        key, stamp, window, signature = (headers.get(f"X-Bapi-{name}", "") for name in names)
        if not (stamp.isdigit() and window.isdigit()):
            raise BybitError(10001, "params error: timestamp or recv_window")
        if self.revoked or key != self.api_key:
            raise BybitError(10003, "API key is invalid.")
        now = self.now_ms()
        if not now - int(window) <= int(stamp) < now + _AHEAD_MS:
            raise BybitError(
                10002,
                "invalid request, please check your server timestamp or recv_window param. "
                f"req_timestamp[{stamp}],server_timestamp[{now}],recv_window[{window}]",
            )
        expected = sign(self.api_secret, stamp + key + window + payload)
        if not hmac.compare_digest(expected, signature):
            raise BybitError(10004, "error sign! please check signature generation algorithm.")

    def stream_refusal(self, arguments: Any) -> str:
        """Why the arguments of an "auth" message are not accepted; empty when they are."""
        if not isinstance(arguments, list) or len(arguments) != 3:
            return "Params Error"
        key, expires, signature = arguments
        if self.revoked or key != self.api_key:
            return "Invalid api_key"
        if not isinstance(expires, int) or expires <= self.now_ms():
            return "Params expired"
        expected = sign(self.api_secret, f"GET/realtime{expires}")
        return "" if hmac.compare_digest(expected, str(signature)) else "Signature for auth error"

    def check_permission(self, name: str) -> None:
        """Refuse what the key may not do.

        Raises:
          BybitError: 10005.
        """
        if name and name not in self.permissions.get("ContractTrade", ()):
            raise BybitError(10005, "Permission denied, please check your API key permissions.")

    def describe(self) -> dict[str, Any]:
        """user/query-api."""
        return {
            "id": "1",
            "note": "local exchange",
            "apiKey": self.api_key,
            "readOnly": 0 if any(self.permissions.values()) else 1,
            "secret": "",
            "permissions": {name: list(rights) for name, rights in self.permissions.items()},
            "ips": ["*"],
            "type": 1,
            "deadlineDay": 90,
            "expiredAt": "2099-01-01T00:00:00Z",
            "createdAt": "2024-01-01T00:00:00Z",
            "unified": 0,
            "uta": 1,
            "userID": int(self.account_id),
            "inviterID": 0,
            "vipLevel": "No VIP",
            "mktMakerLevel": "0",
            "affiliateID": 0,
            "rsaPublicKey": "",
            "isMaster": True,
            "parentUid": "0",
        }


class Limiter:
    """Requests of each route in any second, or in so many ``seconds``, in real time."""

    def __init__(
        self,
        enforced: bool,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        seconds: float = _WINDOW_SECONDS,
    ) -> None:
        self.enforced = enforced
        self._seconds = seconds
        self._monotonic = monotonic
        self._seen: dict[str, deque[float]] = defaultdict(deque)

    def take(self, route: str, limit: int, now_ms: int) -> tuple[bool, dict[str, str]]:
        """Count a request: whether it may pass, and the headers that tell."""
        now, seen = self._monotonic(), self._seen[route]
        while seen and seen[0] <= now - self._seconds:
            seen.popleft()
        passes = len(seen) < limit or not self.enforced
        if passes:
            seen.append(now)
        reset = now_ms if passes else now_ms + int(1000 * (seen[0] + self._seconds - now)) + 1
        return passes, limit_headers(limit, max(limit - len(seen), 0), reset)


def limit_headers(limit: int, left: int, reset_ms: int) -> dict[str, str]:
    """What the venue tells of a rate limit."""
    return {
        "X-Bapi-Limit": str(limit),
        "X-Bapi-Limit-Status": str(left),
        "X-Bapi-Limit-Reset-Timestamp": str(reset_ms),
    }

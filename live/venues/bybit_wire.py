"""Where Bybit is and what it allows: hosts of each environment, endpoints, limits, timeouts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from urllib.parse import urlsplit

from live.venues.rate import Limit

RECV_WINDOW_MS = 5000


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One of the SDK's functions: its name, what it is called here, requests per second."""

    function: str
    per_second: float | None  # None = only the limit of the address counts

    @property
    def limit(self) -> Limit:
        """What the endpoint alone allows."""
        return ADDRESS_LIMIT if self.per_second is None else Limit(self.per_second)


ENDPOINTS: Mapping[str, Endpoint] = MappingProxyType(
    {
        "market/time": Endpoint("get_server_time", None),
        "market/instruments-info": Endpoint("get_instruments_info", None),
        "market/kline": Endpoint("get_kline", None),
        "market/tickers": Endpoint("get_tickers", None),
        "market/risk-limit": Endpoint("get_risk_limit", None),
        "account/wallet-balance": Endpoint("get_wallet_balance", 50),
        "account/info": Endpoint("get_account_info", 50),
        "account/fee-rate": Endpoint("get_fee_rates", 10),
        "account/set-margin-mode": Endpoint("set_margin_mode", 5),
        "account/query-dcp-info": Endpoint("query_dcp_info", 10),
        "user/query-api": Endpoint("get_api_key_information", 10),
        "position/list": Endpoint("get_positions", 50),
        "position/set-leverage": Endpoint("set_leverage", 10),
        "position/switch-mode": Endpoint("switch_position_mode", 10),
        "position/trading-stop": Endpoint("set_trading_stop", 10),
        "order/create": Endpoint("place_order", 10),
        "order/cancel": Endpoint("cancel_order", 10),
        "order/disconnected-cancel-all": Endpoint("set_dcp", 5),
        "order/realtime": Endpoint("get_open_orders", 50),
        "order/history": Endpoint("get_order_history", 50),
        "execution/list": Endpoint("get_executions", 50),
    }
)
# Read in every look at the account: no stop is placed without one, so no circuit holds these up.
LOOKED_AT = frozenset({"market/tickers", "account/wallet-balance"})
ADDRESS = "address"
ADDRESS_LIMIT = Limit(600, 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds.

    Attributes:
      connect, read: of a socket while reading. submit: of a socket while something is changed.
      read_deadline: of a read with its repetitions. submit_deadline: of a change; more than
        ``connect`` and ``submit`` together, because abandoning a wait does not stop a request.
    """

    connect: float = 1.5
    read: float = 4.0
    submit: float = 8.0
    read_deadline: float = 8.0
    submit_deadline: float = 10.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 < getattr(self, field.name) < math.inf:
                raise ValueError(
                    f"timeouts.{field.name}: expected a finite number > 0; "
                    f"got {getattr(self, field.name)}."
                )
        if not self.connect + self.submit < self.submit_deadline:
            raise ValueError(
                "timeouts.submit_deadline: must be longer than connect and submit together, "
                f"{self.connect + self.submit:g} s; got {self.submit_deadline:g}."
            )


@dataclass(frozen=True, slots=True)
class Hosts:
    """Where an environment of the venue is reached."""

    rest: str
    stream: str

    @classmethod
    def of(cls, *, demo: bool, rest: str | None, stream: str | None) -> Hosts:
        """The hosts of the demo or the real venue; others only on this machine.

        Raises:
          ValueError: a given address belongs to the other environment or to somebody else.
        """
        part = "-demo" if demo else ""
        if rest is not None and stream is None and is_local(rest):
            # A stand-in serves both at one address.
            stream = f"ws{rest.rstrip('/').removeprefix('http')}/v5/private"
        known = (
            (rest, f"https://api{part}.bybit.com", "base_url"),
            (stream, f"wss://stream{part}.bybit.com/v5/private", "stream_url"),
        )
        found = []
        for given, usual, name in known:
            url = usual if given is None else given.rstrip("/")
            host = urlsplit(url).hostname
            if url != usual and host not in ("127.0.0.1", "localhost", "::1"):
                raise ValueError(
                    f"{name}: expected {usual} for {'demo' if demo else 'real'} money, or an "
                    f"address of this machine; got host {host!r}."
                )
            found.append(url)
        if any(is_local(url) for url in found) and not all(is_local(url) for url in found):
            raise ValueError(
                "base_url, stream_url: one is on this machine, the other is not; give both."
            )
        return cls(*found)

    @property
    def public(self) -> str:
        """Of the public stream; the demo account trades at the prices of the real venue."""
        own = urlsplit(self.stream)
        where = f"{own.scheme}://{own.netloc}" if self.local else "wss://stream.bybit.com"
        return f"{where}/v5/public/linear"

    @property
    def local(self) -> bool:
        """Whether it is a stand-in on this machine."""
        return is_local(self.rest)


def is_local(url: str) -> bool:
    """Whether an address is on this machine."""
    return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")

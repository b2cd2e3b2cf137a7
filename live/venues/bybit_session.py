"""Being connected to Bybit: clients, proof of the account, and the stream; sends no order."""

from __future__ import annotations

import logging

from live.clock import Clock
from live.secrets import Secret
from live.types import AccountInfo, Instrument, PositionMode, UnreadableError
from live.venue import Usage
from live.venues import bybit_deadman as deadman
from live.venues import bybit_setup as setup
from live.venues.bybit_client import BybitClient
from live.venues.bybit_fees import FeeRates
from live.venues.bybit_stream import BybitStream
from live.venues.bybit_wire import Hosts, Timeouts
from live.venues.rate import Lane, RateConfig
from live.venues.supervised import StreamTimes

_log = logging.getLogger("live.venues")


class BybitSession:
    """One key at one environment of Bybit.

    Args:
      api_key, api_secret: blank = market data only.
      demo: the demo account instead of real money.
      base_url, stream_url: of a stand-in on this machine.
      clock: venue time. rate: share of the venue's limits.
      deadman: seconds after which the venue cancels what rests, once this program is silent; set
        with every connection, 0 = the account's own timer is left alone.
      timeouts, stream_times, bar_times: None = the usual ones; the last is of the public stream.
    """

    def __init__(
        self,
        api_key: str | Secret,
        api_secret: str | Secret,
        *,
        clock: Clock,
        demo: bool = True,
        base_url: str | None = None,
        stream_url: str | None = None,
        rate: RateConfig | None = None,
        deadman: int = 0,
        timeouts: Timeouts | None = None,
        stream_times: StreamTimes | None = None,
        bar_times: StreamTimes | None = None,
    ) -> None:
        self.demo = demo
        self.hosts = Hosts.of(demo=demo, rest=base_url, stream=stream_url)
        self._keys = _keys(api_key, api_secret)
        self._clock = clock
        self._rate = rate or RateConfig()
        self._deadman = deadman
        self._timeouts = timeouts or Timeouts()
        self._stream_times = stream_times
        self._bar_times = bar_times
        self._built: BybitClient | None = None
        self._fees = FeeRates(clock)
        self._stream: BybitStream | None = None
        self._account: AccountInfo | None = None
        self._instruments: dict[str, Instrument] = {}
        self._modes: dict[str, PositionMode] = {}

    def __repr__(self) -> str:
        return f"BybitVenue({self.hosts.rest!r}, demo={self.demo})"

    async def connect(self) -> None:
        """Build clients, prove whose account the keys open, start the stream; sends no order.

        Raises:
          UnreadableError: the venue did not say whose account it is.
          ValueError: it refused the dead man's timer.
        """
        if self._built is not None:
            return
        key, secret = self._keys or (None, None)
        self._built = BybitClient(
            key,
            secret,
            self.hosts,
            demo=self.demo,
            clock=self._clock,
            rate=self._rate,
            timeouts=self._timeouts,
        )
        if key is not None and secret is not None:
            try:
                await self.account()
                if self._deadman:
                    await deadman.arm(self._built, self._deadman)
            except (UnreadableError, ValueError):
                await self.close()
                raise
            self._stream = BybitStream(
                self.hosts.stream,
                key,
                secret,
                self._stream_times,
                again=self._arm_again if self._deadman else None,
            )
            self._stream.start()

    async def close(self) -> None:
        """Release threads, connections and the stream."""
        client, stream = self._built, self._stream
        self._built = self._stream = self._account = None
        if stream is not None:
            await stream.stop()
        if client is not None:
            client.close()

    def usage(self) -> Usage:
        """What was counted of the requests of this key."""
        client, stream = self._built, self._stream
        if client is None:
            return Usage()
        silence = None if stream is None else stream.silence
        banned = client.limiter.banned
        return Usage(
            {} if silence is None else {"private": silence},
            {lane.value: client.limiter.tokens(lane) for lane in Lane},
            dict(client.cage.failures),
            client.circuits.open | ({} if banned is None else {"every route": banned}),
        )

    async def deadman(self) -> int | None:
        """Seconds of the account's timer, None = off; see `live.venue.DeadManVenue`."""
        return await deadman.read_window(self._client)

    async def _arm_again(self) -> None:
        """After a loss: somebody else may have changed the timer meanwhile."""
        try:
            await deadman.arm(self._client, self._deadman)
        except (UnreadableError, ValueError) as error:
            _log.warning("%s", error)

    @property
    def _client(self) -> BybitClient:
        if self._built is None:
            raise UnreadableError("bybit: not connected; call connect() first.")
        return self._built

    async def account(self) -> AccountInfo:
        """Whose account this is, read from the venue."""
        if self._keys is None:
            raise UnreadableError("bybit account: needs an API key and its secret.")
        self._account = await setup.read_account(self._client, self._keys[0], demo=self.demo)
        return self._account


def _keys(api_key: str | Secret, api_secret: str | Secret) -> tuple[Secret, Secret] | None:
    if isinstance(api_key, str) and isinstance(api_secret, str) and not (api_key or api_secret):
        return None
    key = api_key if isinstance(api_key, Secret) else Secret("BYBIT_API_KEY", api_key)
    return key, (
        api_secret if isinstance(api_secret, Secret) else Secret("BYBIT_API_SECRET", api_secret)
    )

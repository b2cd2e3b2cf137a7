"""The account's fees at Bybit: one request tells those of every perpetual."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from decimal import Decimal

from live.clock import Clock
from live.types import Category, UnreadableError
from live.venues import bybit_market as market
from live.venues.bybit_client import BybitClient
from live.venues.codes import RefusedReadError

# A start asks for hundreds of symbols, one after the other; later each look is a new one.
_FRESH_SECONDS = 60.0


class FeeRates:
    """Taker fees of the account, asked for together and remembered for a minute.

    Args:
      clock: gives elapsed seconds.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rates: Mapping[str, Decimal] = {}
        self._until: float | None = None
        self._asking = asyncio.Lock()

    async def taker(self, client: BybitClient, name: str) -> Decimal | None:
        """The fee of a symbol, a fraction; None where the venue does not tell it.

        Raises:
          RefusedReadError: the keys may not ask.
        """
        if not client.has_keys:
            return None
        async with self._asking:
            if self._until is None or not self._clock.monotonic() < self._until:
                self._rates = await _read(client, None)
                self._until = self._clock.monotonic() + _FRESH_SECONDS
        if name in self._rates:
            return self._rates[name]
        # The list was refused, makes no sense, or leaves the symbol out.
        return (await _read(client, name)).get(name)


async def _read(client: BybitClient, name: str | None) -> Mapping[str, Decimal]:
    """Fees by symbol, of one or of all; none where the venue does not tell them."""
    query: dict[str, object] = {"category": "linear"}
    try:
        if name is None:
            return market.taker_fees(await client.read("account/fee-rate", query))
        reply = await client.read("account/fee-rate", {**query, "symbol": name})
        return {name: market.taker_fee(reply, name)}
    except RefusedReadError as error:
        if error.category is Category.AUTH:
            raise
        return {}
    except UnreadableError:
        return {}

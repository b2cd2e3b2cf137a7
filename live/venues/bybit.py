"""Bybit: perpetuals in USDT on a unified account, behind `live.venue.Venue`."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Collection
from decimal import Decimal

from live.types import (
    Answer,
    Balance,
    Bars,
    Bracket,
    Certainty,
    Configured,
    Definitive,
    Fill,
    Instrument,
    Intent,
    IntentKind,
    MarginMode,
    OrderReport,
    Outcome,
    Position,
    PositionMode,
    Quote,
    Unavailable,
    UnreadableError,
)
from live.venue import Capabilities, VenueEvent
from live.venues import bybit_market as market
from live.venues import bybit_parse as parse
from live.venues import bybit_setup as setup
from live.venues.bar_stream import Heard
from live.venues.bybit_bars import closed_bars
from live.venues.bybit_lists import (
    fills_since,
    find_order,
    listed_orders,
    listed_positions,
    open_orders,
)
from live.venues.bybit_public import BybitBarStream
from live.venues.bybit_session import BybitSession
from live.venues.bybit_trade import UnfitError, acknowledged, amend_body, cancel_body, order_body
from live.venues.codes import Operation
from live.venues.rate import Lane
from live.venues.symbols import joined


class BybitVenue(BybitSession):
    """One account of Bybit, shared by every symbol; see `BybitSession` for the arguments."""

    name = parse.VENUE
    capabilities = Capabilities(
        bracket_with_entry=True,
        protects_position=True,
        reduce_only=True,
        closed_flag=False,
        refuses_repeated_id=True,
    )

    # The market ----------------------------------------------------------------------------------

    async def server_time(self) -> int:
        """Milliseconds UTC at the venue."""
        return parse.server_time(await self._client.read("market/time"))

    async def instrument(self, symbol: str) -> Instrument:
        """The listed symbol, with the account's own fee where it can be read.

        Raises:
          ValueError: it is not listed or does not trade.
        """
        name = joined(symbol)
        self._instruments[name] = await setup.read_instrument(self._client, name, self._fees)
        return self._instruments[name]

    async def listing(self, symbol: str) -> Instrument:
        """The symbol as it is listed now, whether it trades or not.

        Raises:
          ValueError: it is not listed.
        """
        name = joined(symbol)
        self._instruments[name] = await setup.read_listing(self._client, name, self._fees)
        return self._instruments[name]

    async def closed_bars(self, symbol: str, frame: str, count: int) -> Bars:
        """The newest ``count`` closed bars, fewer where the symbol is young.

        Raises:
          ValueError: the venue has no such time frame.
        """
        return await closed_bars(self._client, joined(symbol), frame, count)

    async def quote(self, symbol: str) -> Quote:
        """Best prices and mark."""
        name = joined(symbol)
        reply = await self._client.read("market/tickers", _linear(name))
        return market.quote(reply, name)

    async def quotes(self, symbols: Collection[str]) -> dict[str, Quote]:
        """Quotes of many symbols in one request; see `live.venue.BatchVenue`."""
        names = {joined(symbol): symbol for symbol in symbols}
        reply = await self._client.read("market/tickers", {"category": "linear"})
        return {names[name]: one for name, one in market.quotes(reply, names).items()}

    def bar_stream(self, heard: Heard) -> BybitBarStream:
        """A stream of closed bars, not started; it needs no keys."""
        return BybitBarStream(self.hosts.public, heard, self._bar_times)

    # The account ---------------------------------------------------------------------------------

    async def configure(
        self,
        symbol: str,
        leverage: Decimal,
        margin_mode: MarginMode,
        position_mode: PositionMode,
        *,
        account_wide: bool = False,
    ) -> Configured:
        """Set what may be set and read everything back.

        Raises:
          ValueError: what was read back differs from what was asked.
        """
        name = joined(symbol)
        wanted = Configured(leverage, margin_mode, position_mode)
        found = await setup.configure(self._client, name, wanted, account_wide=account_wide)
        self._modes[name] = found.position_mode
        if self._account is not None:
            self._account = dataclasses.replace(self._account, margin_mode=found.margin_mode)
        return found

    async def settings(self, symbol: str) -> Configured:
        """Leverage, margin mode and position mode of a symbol as they are; changes nothing.

        Raises:
          UnreadableError: they could not be read, or the sides of a hedge differ in leverage.
        """
        return await setup.read_settings(self._client, joined(symbol))

    async def position(self, symbol: str) -> Position:
        """Flat, held or unknown; flat only on the venue's literal word.

        Raises:
          UnreadableError: there was no reply.
        """
        name = joined(symbol)
        reply = await self._client.read("position/list", _linear(name), lane=Lane.RESERVED)
        return parse.position(reply, name, self._margin, self._least([name])[name])

    async def positions(self, symbols: Collection[str]) -> dict[str, Position]:
        """Positions that the list of the settlement coin shows; see `live.venue.BatchVenue`."""
        names = {joined(symbol): symbol for symbol in symbols}
        found = await listed_positions(self._client, names, self._margin, self._least(names))
        return {names[name]: one for name, one in found.items()}

    async def balance(self) -> Balance:
        """Equity and available balance in USDT."""
        reply = await self._client.read(
            "account/wallet-balance", {"accountType": "UNIFIED", "coin": parse.SETTLE}
        )
        return parse.balance(reply)

    # Orders --------------------------------------------------------------------------------------

    async def orders(self, symbol: str) -> tuple[OrderReport, ...]:
        """Open and conditional orders; one that cannot be read makes the list unreadable."""
        return await open_orders(self._client, joined(symbol))

    async def open_orders(self, symbols: Collection[str]) -> dict[str, tuple[OrderReport, ...]]:
        """Open and conditional orders of many symbols; see `live.venue.BatchVenue`."""
        names = {joined(symbol): symbol for symbol in symbols}
        found = await listed_orders(self._client, names)
        return {names[name]: one for name, one in found.items()}

    async def submit(self, intent: Intent) -> Outcome:
        """One network attempt to place an order; never raises for what the venue did."""
        if intent.kind is IntentKind.AMEND:
            return await self.amend_protection(intent.symbol, intent.bracket or Bracket(None, None))
        if intent.kind is IntentKind.CANCEL:
            return await self.cancel(intent.symbol, intent.client_id)
        try:
            listed = self._listed(intent.symbol)
            mode = await self._mode(listed.venue_symbol)
            body = order_body(intent, listed, mode)
        except UnfitError as error:
            return error.outcome()
        calm = intent.reduce_only or intent.role.protective
        lane = Lane.RESERVED if calm else Lane.NORMAL
        answer = await self._client.send("order/create", Operation.SUBMIT, body, lane=lane)
        return acknowledged(answer, intent.client_id)

    async def cancel(
        self, symbol: str, client_id: str = "", *, venue_order_id: str = ""
    ) -> Outcome:
        """Cancel one order, one network attempt; an order that is gone is ``NOT_FOUND``."""
        try:
            listed = self._listed(symbol)
            named = cancel_body(client_id, venue_order_id)
        except UnfitError as error:
            return error.outcome()
        answer = await self._client.send(
            "order/cancel",
            Operation.CANCEL,
            {**_linear(listed.venue_symbol), **named},
            lane=Lane.RESERVED,
        )
        return acknowledged(answer, client_id)

    async def amend_protection(self, symbol: str, bracket: Bracket) -> Outcome:
        """Set, move or (None) remove stop and target of the position."""
        try:
            listed = self._listed(symbol)
            index = await self._held_index(listed.venue_symbol)
            body = amend_body(bracket, listed, index)
        except UnfitError as error:
            return error.outcome()
        answer = await self._client.send(
            "position/trading-stop", Operation.AMEND, body, lane=Lane.RESERVED
        )
        if isinstance(answer, parse.Envelope):
            return Definitive(Certainty.ACCEPTED)
        return answer

    async def query(self, symbol: str, client_id: str) -> Answer:
        """What became of an order; absent only if every list answered without it."""
        try:
            client = self._client
        except UnreadableError as error:
            return Unavailable(str(error))
        return await find_order(client, joined(symbol), client_id)

    async def fills(self, symbol: str, since_ms: int) -> list[Fill]:
        """Every change of position or cash since an instant, oldest first, each trade once."""
        name = joined(symbol)
        return (await fills_since(self._client, (name,), since_ms))[name]

    async def all_fills(self, symbols: Collection[str], since_ms: int) -> dict[str, list[Fill]]:
        """The same of many symbols in one listing; see `live.venue.BatchVenue`."""
        names = {joined(symbol): symbol for symbol in symbols}
        found = await fills_since(self._client, tuple(names), since_ms)
        return {names[name]: rows for name, rows in found.items()}

    async def events(self) -> AsyncIterator[VenueEvent]:
        """What the private stream tells, until `close`."""
        if self._stream is None:
            raise RuntimeError("bybit: has no stream; call connect() first, with keys.")
        async for event in self._stream.events():
            yield event

    # Inside --------------------------------------------------------------------------------------

    @property
    def _margin(self) -> MarginMode:
        return MarginMode.UNKNOWN if self._account is None else self._account.margin_mode

    def _least(self, names: Collection[str]) -> dict[str, Decimal]:
        """The smallest order of each symbol, 0 where it was not read."""
        listed = {name: self._instruments.get(name) for name in names}
        return {name: Decimal(0) if i is None else i.min_quantity for name, i in listed.items()}

    def _listed(self, symbol: str) -> Instrument:
        """The instrument, if the environment was proven and the symbol was read.

        Raises:
          UnfitError: nothing may be sent.
        """
        if self._account is None:
            raise UnfitError("bybit: whose account it is was not proven; call connect() first")
        listed = self._instruments.get(joined(symbol))
        if listed is None:
            raise UnfitError(f"bybit: {symbol} was not read; call instrument() first")
        return listed

    async def _mode(self, name: str) -> PositionMode:
        """The position mode of a symbol, read once."""
        if name not in self._modes:
            try:
                rows = await setup.read_legs(self._client, name, Lane.RESERVED)
            except UnreadableError as error:
                raise UnfitError(f"position mode: {error}") from None
            self._modes[name] = parse.position_mode(rows)
        return self._modes[name]

    async def _held_index(self, name: str) -> int:
        """The leg whose protection is meant."""
        if await self._mode(name) is PositionMode.ONE_WAY:
            return 0
        try:
            return await setup.held_index(self._client, name)
        except UnreadableError as error:
            raise UnfitError(f"position: {error}") from None


def _linear(name: str) -> dict[str, object]:
    return {"category": "linear", "symbol": name}

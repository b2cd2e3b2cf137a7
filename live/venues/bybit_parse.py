"""What Bybit's replies say, as values of `live.types`; pure, exact, and never a guess.

Every function raises `UnreadableError`, naming the field, where a reply cannot be believed. Lists
are read item by item: the caller decides whether one bad item spoils the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from live.types import (
    DUST,
    Balance,
    Flat,
    Held,
    MarginMode,
    Position,
    PositionMode,
    Side,
    Unknown,
    UnreadableError,
)
from live.venues.fields import Fields, milliseconds

T = TypeVar("T")

VENUE = "bybit"
SETTLE = "USDT"

SIDES: Mapping[str, Side] = MappingProxyType({"Buy": Side.BUY, "Sell": Side.SELL})
# The side of a leg without a position; "None" is how classic accounts write it.
_NO_SIDE = ("", "None")
_LEG_SIDES = MappingProxyType({**SIDES, **dict.fromkeys(_NO_SIDE, None)})
MARGIN_MODES: Mapping[str, MarginMode] = MappingProxyType(
    {
        "ISOLATED_MARGIN": MarginMode.ISOLATED,
        "REGULAR_MARGIN": MarginMode.CROSS,
        "PORTFOLIO_MARGIN": MarginMode.UNKNOWN,
    }
)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A successful reply: its result and the venue's time when it answered."""

    result: Fields
    time_ms: int


@dataclass(frozen=True, slots=True)
class Parsed(Generic[T]):
    """Items of a list that could be read, and what was wrong with the others."""

    items: tuple[T, ...]
    faults: tuple[str, ...]

    def all(self) -> tuple[T, ...]:
        """The items, if every one could be read.

        Raises:
          UnreadableError: naming the first that could not: a list with a hole is no list.
        """
        if self.faults:
            raise UnreadableError(self.faults[0])
        return self.items


def each(rows: Iterable[Any], where: str, parse: Callable[[Fields], T]) -> Parsed[T]:
    """Read a list item by item."""
    items: list[T] = []
    faults: list[str] = []
    for i, row in enumerate(rows):
        try:
            items.append(parse(Fields.of(row, f"{where} [{i}]")))
        except UnreadableError as error:
            faults.append(str(error))
    return Parsed(tuple(items), tuple(faults))


def envelope(raw: object, what: str) -> Envelope:
    """The result inside a reply whose code is literally 0."""
    reply = Fields.of(raw, f"{VENUE} {what}")
    if reply.whole("retCode") != 0:
        raise reply.wrong("retCode", "0")
    return Envelope(reply.object("result"), reply.time_ms("time"))


def server_time(reply: Envelope) -> int:
    """Milliseconds UTC at the venue, from its nanoseconds."""
    nanoseconds = reply.result.number("timeNano")
    time_ms = milliseconds(int(nanoseconds) // 1_000_000)
    if time_ms is None:
        raise reply.result.wrong("timeNano", "nanoseconds since 1970")
    return time_ms


# The account ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Leg:
    """One row of the position list; ``quantity`` is signed, 0 = literally none."""

    index: int
    quantity: Decimal
    leverage: Decimal
    row: Fields


def legs(reply: Envelope, symbol: str) -> tuple[Leg, ...]:
    """The rows of a symbol: one of a one-way position, or both of a hedged one."""
    rows = each(reply.result.list("list"), f"{VENUE} position", lambda row: _leg(row, symbol)).all()
    indices = tuple(sorted(leg.index for leg in rows))
    if indices not in ((0,), (1, 2)):
        raise UnreadableError(
            f"{VENUE} position {symbol}: expected one row, or both sides of a hedge; "
            f"got positionIdx {list(indices)}."
        )
    return rows


def position_mode(rows: tuple[Leg, ...]) -> PositionMode:
    """Whether the rows are those of a one-way or of a hedged symbol."""
    return PositionMode.ONE_WAY if len(rows) == 1 else PositionMode.HEDGE


def position(
    reply: Envelope, symbol: str, margin_mode: MarginMode, min_quantity: Decimal
) -> Position:
    """Flat on the venue's literal word, held if one leg is readable in full, else unknown.

    Args:
      margin_mode: of the account; the rows do not tell it.
      min_quantity: of an order; less is a residue.
    """
    try:
        rows = legs(reply, symbol)
        held = [leg for leg in rows if leg.quantity]
        if not held:
            return Flat()
        if len(held) > 1:
            return Unknown(f"{VENUE} position {symbol}: both sides of a hedge are open")
        return _held(held[0], reply.time_ms, margin_mode, min_quantity)
    except UnreadableError as error:
        return Unknown(str(error))


def _leg(row: Fields, symbol: str) -> Leg:
    if row.text("symbol") != symbol:
        raise row.wrong("symbol", repr(symbol))
    index = row.whole("positionIdx")
    side = row.word("side", _LEG_SIDES)
    size = row.not_negative("size")
    if not isinstance(row.raw["size"], str):
        raise row.wrong("size", "a number written as text")
    if side is None and size > DUST:
        raise row.wrong("side", "Buy or Sell for a size above 0")
    if side is not None and size == 0:
        raise row.wrong("size", "a number > 0 beside a side")
    if (index, side) in ((1, Side.SELL), (2, Side.BUY)):
        raise row.wrong("side", f"the one of positionIdx {index}")
    quantity = Decimal(0) if side is None or size <= DUST else side.sign * size
    return Leg(index, quantity, row.positive("leverage"), row)


def _held(leg: Leg, time_ms: int, margin_mode: MarginMode, min_quantity: Decimal) -> Held:
    row = leg.row
    return Held(
        quantity=leg.quantity,
        entry_price=row.positive("avgPrice"),
        mark_price=row.positive("markPrice"),
        unrealised_pnl=row.number("unrealisedPnl"),
        leverage=leg.leverage,
        margin_mode=margin_mode,
        liquidation_price=row.optional_price("liqPrice"),
        venue_time_ms=time_ms,
        stop_price=row.optional_price("stopLoss"),
        target_price=row.optional_price("takeProfit"),
        residue=abs(leg.quantity) < min_quantity,
    )


def balance(reply: Envelope) -> Balance:
    """Equity and what is free of the settlement coin; other coins of the account never count."""
    accounts = reply.result.rows("list")
    if len(accounts) != 1:
        raise reply.result.wrong("list", "exactly one account")
    account = accounts[0]
    coins = [coin for coin in account.rows("coin") if coin.raw.get("coin") == SETTLE]
    if len(coins) != 1:
        raise account.wrong("coin", f"exactly one row of {SETTLE}")
    coin = coins[0]
    maintenance = coin.optional_number("totalPositionMM")
    if maintenance is None:
        maintenance = account.optional_number("totalMaintenanceMargin")
    return Balance(
        equity=coin.number("equity"),
        available=_available(account, coin),
        maintenance_margin=maintenance,
        asset=SETTLE,
        venue_time_ms=reply.time_ms,
    )


def _available(account: Fields, coin: Fields) -> Decimal:
    """What new positions may use: of the coin, and of the account where it says so.

    With isolated margin the account's own figure is blank, and a profit that is not realised
    cannot be used. The margins of the coin are blank where the whole portfolio is margined; then
    the account's figure must be there. A field that is missing is never read as 0.
    """
    blank = _blank(account, "totalAvailableBalance")
    own = coin.number("walletBalance" if blank else "equity")
    for name in ("totalPositionIM", "totalOrderIM"):
        if blank or not _blank(coin, name):
            own -= coin.not_negative(name)
    own -= coin.not_negative("locked")
    whole = own if blank else account.number("totalAvailableBalance")
    return max(min(own, whole), Decimal(0))


def _blank(row: Fields, name: str) -> bool:
    """Whether a field is there and says nothing."""
    return name in row.raw and row.raw[name] in (None, "")


def margin_mode(reply: Envelope) -> MarginMode:
    """How the account holds margin; a mode that is not known is unknown, not an error."""
    return MARGIN_MODES.get(reply.result.text("marginMode"), MarginMode.UNKNOWN)


def permissions(reply: Envelope) -> tuple[str, frozenset[str]]:
    """Account id and what the key may do.

    The words are ``trade``, ``read``, ``withdraw``, ``ip_list`` and the venue's own, written
    ``Group.Permission``. The key itself, which the reply repeats, is not looked at.
    """
    row = reply.result
    account_id = str(row.whole("userID"))
    groups = row.object("permissions")
    own = {
        f"{group}.{word}"
        for group, words in groups.raw.items()
        if isinstance(words, list)
        for word in words
        if isinstance(word, str)
    }
    words = {"read"}
    if row.whole("readOnly") == 0 and "ContractTrade.Order" in own:
        words.add("trade")
    if any(word.startswith("Wallet.") and "withdraw" in word.lower() for word in own):
        words.add("withdraw")
    addresses = row.raw.get("ips")
    if isinstance(addresses, list) and addresses and "*" not in addresses:
        words.add("ip_list")
    return account_id, frozenset(own | words)

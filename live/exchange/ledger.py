"""The account in exact decimals: what a trade does to it, and what margin its positions need.

Pure values and functions. A position keeps what it cost, not its average price, so that closing in
parts loses nothing to rounding: wallet + value of the positions - their cost always adds up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from types import MappingProxyType

from live.exchange.prices import to_step
from live.types import Instrument, MarginMode, PositionMode

# Precision of everything the exchange computes, and the unit that money is kept in.
CONTEXT = Context(prec=50)
UNIT = Decimal("1e-12")

Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Holding:
    """A position that is not flat.

    Attributes:
      quantity: signed, base units. cost: signed quote units paid for it, quantity * entry price.
      realised: profit realised since it was opened, before fees. opened_ms, updated_ms: times.
    """

    symbol: str
    index: int
    quantity: Decimal
    cost: Decimal
    realised: Decimal
    opened_ms: int
    updated_ms: int

    @property
    def side(self) -> int:
        """+1 long, -1 short."""
        return 1 if self.quantity > 0 else -1

    @property
    def entry_price(self) -> Decimal:
        """Quantity-weighted price it was opened at."""
        return self.cost / self.quantity

    def unrealised(self, mark: Decimal) -> Decimal:
        """Profit if it were closed at ``mark``, quote units."""
        return self.quantity * mark - self.cost


@dataclass(frozen=True, slots=True)
class Settings:
    """How one symbol is traded; leverage per side differs in hedge mode only."""

    long_leverage: Decimal
    short_leverage: Decimal
    margin_mode: MarginMode
    position_mode: PositionMode

    def leverage(self, side: int) -> Decimal:
        """Leverage of a long (+1) or short (-1)."""
        return self.long_leverage if side > 0 else self.short_leverage


@dataclass(frozen=True, slots=True)
class Account:
    """Money and positions; all totals since the start, quote units.

    ``wallet`` = initial + realised - fees - funding + deposits + insurance, always.

    Attributes:
      insurance: losses of liquidations that the account could not pay.
    """

    wallet: Decimal
    initial: Decimal
    realised: Decimal = Decimal(0)
    fees: Decimal = Decimal(0)
    funding: Decimal = Decimal(0)
    deposits: Decimal = Decimal(0)
    insurance: Decimal = Decimal(0)
    holdings: Mapping[Key, Holding] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def start(cls, initial: Decimal) -> Account:
        """A flat account."""
        return cls(wallet=initial, initial=initial)

    def holding(self, key: Key) -> Holding | None:
        """One position, None when flat."""
        return self.holdings.get(key)

    def with_holding(self, key: Key, holding: Holding | None) -> Account:
        """The account with one position replaced or (None) removed."""
        holdings = {k: h for k, h in self.holdings.items() if k != key}
        if holding is not None:
            holdings[key] = holding
        return replace(self, holdings=MappingProxyType(holdings))

    def unrealised(self, marks: Mapping[str, Decimal]) -> Decimal:
        """Unrealised profit of all positions."""
        return sum(
            (h.unrealised(marks[h.symbol]) for h in self.holdings.values()), start=Decimal(0)
        )

    def equity(self, marks: Mapping[str, Decimal]) -> Decimal:
        """Wallet and unrealised profit."""
        return self.wallet + self.unrealised(marks)


@dataclass(frozen=True, slots=True)
class Traded:
    """What a trade did to a position: unsigned quantities closed and opened, profit realised."""

    closed: Decimal
    opened: Decimal
    realised: Decimal


def trade(
    account: Account, key: Key, signed: Decimal, price: Decimal, fee: Decimal, time_ms: int
) -> tuple[Account, Traded]:
    """Change a position by ``signed`` base units at a price; what crosses zero closes, then opens.

    Args:
      fee: quote units, for the whole trade.
    """
    held = account.holding(key)
    closing = Decimal(0)
    if held is not None and held.side * signed < 0:
        closing = min(abs(signed), abs(held.quantity))
    realised = Decimal(0)
    if held is not None and closing:
        cost = held.cost
        if closing < abs(held.quantity):
            cost = (held.cost * closing / abs(held.quantity)).quantize(UNIT)
        realised = held.side * closing * price - cost
        rest = held.quantity - held.side * closing
        held = replace(
            held,
            quantity=rest,
            cost=held.cost - cost,
            realised=held.realised + realised,
            updated_ms=time_ms,
        )
        if not rest:
            held = None
    opening = signed + closing if signed < 0 else signed - closing
    if opening:
        held = held or Holding(*key, Decimal(0), Decimal(0), Decimal(0), time_ms, time_ms)
        held = replace(
            held,
            quantity=held.quantity + opening,
            cost=held.cost + opening * price,
            updated_ms=time_ms,
        )
    after = replace(
        account.with_holding(key, held),
        wallet=account.wallet + realised - fee,
        realised=account.realised + realised,
        fees=account.fees + fee,
    )
    return after, Traded(closed=closing, opened=abs(opening), realised=realised)


def pay_funding(account: Account, paid: Decimal) -> Account:
    """Take a funding payment (negative: receive one)."""
    return replace(account, wallet=account.wallet - paid, funding=account.funding + paid)


def deposit(account: Account, amount: Decimal) -> Account:
    """Move money in (negative: out)."""
    return replace(account, wallet=account.wallet + amount, deposits=account.deposits + amount)


def insure(account: Account) -> Account:
    """Lift a wallet that liquidations left below zero back to zero."""
    gift = max(-account.wallet, Decimal(0))
    return replace(account, wallet=account.wallet + gift, insurance=account.insurance + gift)


def initial_margin(holding: Holding, settings: Settings) -> Decimal:
    """Margin a position posts, abs(cost) / leverage."""
    return abs(holding.cost) / settings.leverage(holding.side)


def maintenance_margin(holding: Holding, instrument: Instrument) -> Decimal:
    """Margin that must remain, a fraction of what the position cost."""
    return abs(holding.cost) * instrument.maintenance_rate


def available(
    account: Account, settings: Mapping[str, Settings], marks: Mapping[str, Decimal]
) -> Decimal:
    """What new positions may post: unrealised profit and loss counts in cross margin only."""
    free = account.wallet
    for holding in account.holdings.values():
        own = settings[holding.symbol]
        free -= initial_margin(holding, own)
        if own.margin_mode is MarginMode.CROSS:
            free += holding.unrealised(marks[holding.symbol])
    return free


def cross_balance(
    account: Account,
    settings: Mapping[str, Settings],
    instruments: Mapping[str, Instrument],
    marks: Mapping[str, Decimal],
) -> tuple[Decimal, Decimal]:
    """Balance behind the cross positions (profit included), and the margin they must keep."""
    balance, needed = account.wallet, Decimal(0)
    for holding in account.holdings.values():
        own = settings[holding.symbol]
        if own.margin_mode is MarginMode.CROSS:
            balance += holding.unrealised(marks[holding.symbol])
            needed += maintenance_margin(holding, instruments[holding.symbol])
        else:
            balance -= initial_margin(holding, own)
    return balance, needed


def cross_level(
    symbol: str,
    account: Account,
    settings: Mapping[str, Settings],
    instruments: Mapping[str, Instrument],
    marks: Mapping[str, Decimal],
) -> Decimal | None:
    """Mark of one symbol at which the cross positions are liquidated, all other marks as they are.

    None when the symbol's net position is flat or no positive price does it.
    """
    net = sum(
        (h.quantity for h in account.holdings.values() if h.symbol == symbol), start=Decimal(0)
    )
    if not net or settings[symbol].margin_mode is not MarginMode.CROSS:
        return None
    balance, needed = cross_balance(account, settings, instruments, marks)
    level = marks[symbol] - (balance - needed) / net
    rounding = ROUND_CEILING if net > 0 else ROUND_FLOOR
    level = to_step(level, instruments[symbol].tick, rounding)
    return level if level > 0 else None

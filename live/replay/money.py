"""What orders and bars do to a simulated account: `jaxtrade.core` in float64, compiled once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxtrade.core import trade
from jaxtrade.core.account import Account
from jaxtrade.core.rules import Costs, Rules, Terms, order_price
from live.replay import compiled

_DEFAULT_RULES = Rules()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplayTerms:
    """Costs and terms of a simulated account, as the environments name them.

    Attributes:
      initial_cash: quote units. transaction_fee: fraction of the traded notional.
      half_spread, slippage: fractions of the price. leverage: 1 is spot.
      maintenance_margin_rate: fraction of the entry notional. rules: behaviour switches.

    Raises:
      ValueError: a number is outside its range.
    """

    initial_cash: float = 10000.0
    transaction_fee: float = 0.0
    half_spread: float = 0.0
    slippage: float = 0.0
    leverage: float = 1.0
    maintenance_margin_rate: float = 0.004
    rules: Rules = _DEFAULT_RULES

    def __post_init__(self) -> None:
        fee, spread, slip = self.transaction_fee, self.half_spread, self.slippage
        checks = (
            ("initial_cash", 0 < self.initial_cash < math.inf, "a finite number > 0"),
            ("leverage", 1 <= self.leverage < math.inf, "a finite number >= 1"),
            ("transaction_fee", 0 <= fee < 1, "in [0, 1)"),
            ("half_spread", 0 <= spread < 1, "in [0, 1)"),
            ("slippage", 0 <= slip < 1 - spread, "in [0, 1 - half_spread)"),
            (
                "maintenance_margin_rate",
                0 <= self.maintenance_margin_rate * self.leverage < 1,
                "in [0, 1/leverage)",
            ),
        )
        for name, fits, expected in checks:
            if not fits:
                raise ValueError(f"{name}: must be {expected}; got {getattr(self, name)}.")

    @property
    def spot(self) -> bool:
        """Whether the account trades without leverage, shorts and liquidation."""
        return self.leverage == 1


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """Numbers of an account at a mark, quote units unless said.

    Attributes:
      quantity: signed base units. entry, stop, target: prices, 0 = none.
      liquidation: price, 0 = none. maintenance: margin that must remain.
    """

    equity: float
    cash: float
    quantity: float
    entry: float
    unrealised: float
    liquidation: float
    maintenance: float
    stop: float
    target: float


@dataclasses.dataclass(frozen=True, slots=True)
class Traded:
    """One order carried out: whether refused, and its price and fee (0 when it did nothing)."""

    refused: bool
    price: float
    fee: float


@dataclasses.dataclass(frozen=True, slots=True)
class Passed:
    """What a bar did: `jaxtrade.core.exits` kind, fill price (NaN = none), fee, funding paid."""

    kind: int
    price: float
    fee: float
    funding: float


@dataclasses.dataclass(slots=True)
class Wallet:
    """Free cash, quote units; positions that are held in isolation may share it."""

    cash: float


class Money:
    """One simulated position and its cash; every change goes through `jaxtrade.core`.

    Args:
      wallet: shared with other positions; None = one of its own, with the initial cash.

    Attributes:
      account: leaves are float64 scalars; its cash is that of the wallet.
    """

    def __init__(self, terms: ReplayTerms, wallet: Wallet | None = None) -> None:
        self._rules = terms.rules
        numbers: Any = [
            np.float64(x) for x in (terms.transaction_fee, terms.half_spread, terms.slippage)
        ]
        self._costs = Costs(*numbers)
        leverage: Any = np.float64(terms.leverage)
        rate: Any = np.float64(terms.maintenance_margin_rate)
        one: Any = np.float64(1)
        self._terms = Terms(
            leverage=leverage,
            initial_rate=one / leverage,
            maintenance_rate=rate,
            unit=one,
            spot=terms.spot,
        )
        self._initial = float(terms.initial_cash)
        self.wallet = wallet or Wallet(self._initial)
        self._own = self._flat()

    @property
    def account(self) -> Account:
        """The position with the cash there is now."""
        cash: Any = np.asarray(self.wallet.cash, np.float64)
        return dataclasses.replace(self._own, cash=cash)

    @account.setter
    def account(self, after: Account) -> None:
        self._own, self.wallet.cash = after, float(after.cash)

    @property
    def held(self) -> float:
        """The position, signed base units."""
        return float(self._own.quantity)

    def reset(self) -> None:
        """Back to a flat account with the initial cash."""
        self.account = self._flat()

    def state(self) -> dict[str, float]:
        """Name -> value of every number of the account."""
        fields = dataclasses.fields(self.account)
        return {field.name: float(getattr(self.account, field.name)) for field in fields}

    def resume(self, state: Mapping[str, float]) -> None:
        """Take up what `state` gave."""
        flat = self._flat()
        given: dict[str, Any] = {
            name: np.asarray(x, getattr(flat, name).dtype) for name, x in state.items()
        }
        self.account = dataclasses.replace(flat, **given)

    def _flat(self) -> Account:
        zero: Any = np.zeros((), np.float64)
        cash: Any = np.asarray(self._initial, np.float64)
        none: Any = np.asarray(np.nan, np.float64)
        bars: Any = np.zeros((), np.int32)
        return Account(cash, zero, zero, bars, none, zero, zero)

    def price(self, base: float, side: int, draw: float) -> float:
        """Price at which an order of ``side`` executes."""
        sign: Any = np.float64(side)
        at: Any = np.float64(base)
        uniform: Any = np.float64(draw)
        return float(order_price(at, sign, uniform, self._costs, self._rules))

    def standing(self, mark: float) -> Standing:
        """The account at a mark price."""
        account = self.account
        with jax.enable_x64(True):
            found = np.asarray(compiled.standing()(account, np.float64(mark), self._terms))
        equity, unrealised, liquidation = found.tolist()
        quantity, entry = float(account.quantity), float(account.entry_price)
        return Standing(
            equity=equity,
            cash=float(account.cash),
            quantity=quantity,
            entry=entry,
            unrealised=unrealised,
            liquidation=liquidation,
            maintenance=abs(quantity) * entry * float(self._terms.maintenance_rate),
            stop=float(account.stop_price),
            target=float(account.target_price),
        )

    def trade(
        self,
        closing: float,
        opening: float,
        *,
        base: float,
        price: float,
        stop: float = 0.0,
        target: float = 0.0,
    ) -> Traded:
        """Take ``closing`` (signed like the position) off, then add ``opening`` (signed).

        Args:
          base: un-slipped price. price: of the fill. stop, target: of a position newly opened.
        """
        numbers = [np.float64(x) for x in (closing, opening, 0.0, base, price, stop, target)]
        with jax.enable_x64(True):
            after, fill = compiled.traded()(
                self.account, numbers, self._costs, self._terms, self._rules.fill_at
            )
            fill = jax.tree.map(np.asarray, fill)
            self.account = jax.tree.map(np.asarray, after)
        event = int(fill.event)
        refused = bool(event & trade.REFUSED)
        did = bool(event & ~trade.REFUSED)
        return Traded(refused, float(fill.price) if did else 0.0, float(fill.fee))

    def pass_bar(self, bar: tuple[float, float, float, float], draw: float, rate: float) -> Passed:
        """Let a bar act on what is held, then pay funding at its close.

        Args:
          bar: open, high, low, close. rate: of funding.
        """
        prices = tuple(np.float64(x) for x in bar)
        with jax.enable_x64(True):
            after, exit_, paid = compiled.passed()(
                self.account,
                prices,
                np.float64(draw),
                np.float64(rate),
                self._costs,
                self._terms,
                self._rules,
            )
            exit_, paid = jax.tree.map(np.asarray, (exit_, paid))
            self.account = jax.tree.map(np.asarray, after)
        return Passed(int(exit_.kind), float(exit_.price), float(exit_.fee), float(paid))

    def resize(self, quantity: float) -> None:
        """Set the held quantity; for differences that are no trade."""
        held: Any = np.asarray(quantity, np.float64)
        self.account = dataclasses.replace(self.account, quantity=held)

    def protect(self, stop: float | None = None, target: float | None = None) -> None:
        """Set (0 = remove, None = leave) stop and target of the position."""
        changes: dict[str, Any] = {
            name: np.asarray(value, np.float64)
            for name, value in (("stop_price", stop), ("target_price", target))
            if value is not None
        }
        self.account = dataclasses.replace(self.account, **changes)

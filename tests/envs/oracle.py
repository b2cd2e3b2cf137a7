"""One step of the level environment in scalar float64, written from the semantics alone.

Nothing here shares code with the library: Python numbers, branches and early returns. Section
numbers are those of the offline semantics.
"""

from __future__ import annotations

import dataclasses
import math

KAPPA = 1e-9
NAN = float("nan")


@dataclasses.dataclass
class Terms:
    """Numbers of one environment; ``rate`` places the liquidation price."""

    leverage: float
    fee: float
    half_spread: float
    slippage: float
    rate: float
    bankrupt: float
    ruin: float

    @property
    def spot(self):
        return self.leverage == 1


@dataclasses.dataclass
class Held:
    """The account and what is remembered with it."""

    cash: float
    quantity: float
    entry: float
    last_level: float
    held_bars: int
    held_direction: int


def sign(x):
    return (x > 0) - (x < 0)


def equity(a, price, t):
    if t.spot:
        return a.cash + abs(a.quantity) * price
    return a.cash + abs(a.quantity) * a.entry / t.leverage + a.quantity * (price - a.entry)


def liquidation_price(a, t):
    if t.spot or a.quantity == 0:
        return 0.0
    if a.quantity > 0:
        return a.entry * (1 - 1 / t.leverage + t.rate)
    return a.entry * (1 + 1 / t.leverage - t.rate)


def bankruptcy_price(a, t):
    if a.quantity > 0:
        return a.entry * (1 - 1 / t.leverage) / (1 - t.fee)
    return a.entry * (1 + 1 / t.leverage) / (1 + t.fee)


def target(capital, level, price, t):
    if t.spot and level < 0:
        level = 0.0
    return sign(level) * capital * abs(level) * t.leverage / (1 + t.leverage * t.fee) / price


def price_of(base, side, u, t, rules):
    if rules.slippage_side == "adverse":
        return base * (1 + side * (t.half_spread + t.slippage * u))
    return base * (1 + t.slippage * (2 * u - 1) + side * t.half_spread)


class Step:
    """A step in progress: the account, and the record it leaves."""

    def __init__(self, a, t):
        self.a, self.t = dataclasses.replace(a), t
        self.event, self.price, self.closed_cash = 0, NAN, NAN
        self.fee = self.notional = self.cost = self.exit_fee = 0.0
        self.exit_kind, self.exit_price = 0, NAN

    def take_off(self, size, price, base):
        """Close or decrease by ``size`` (signed like the position); returns the fill price (10)."""
        a, t = self.a, self.t
        capped = False
        if not t.spot:
            bound = bankruptcy_price(a, t)
            if (a.quantity > 0 and price <= bound) or (a.quantity < 0 and price >= bound):
                price, capped = bound, True
        fee = t.fee * abs(size) * price
        before = a.cash
        after = before + size * (price - a.entry) - fee + abs(size) * a.entry / t.leverage
        if capped and size == a.quantity:
            after = before
        after = max(after, min(before, 0.0))
        if size == a.quantity:
            after = max(after, 0.0)
            a.quantity = a.entry = 0.0
        else:
            a.quantity -= size
        a.cash = after
        adverse = base - price if size > 0 else price - base
        self.book(size, price, fee, adverse)
        return price

    def put_on(self, size, price, base):
        a, t = self.a, self.t
        fee = t.fee * abs(size) * price
        before = a.cash
        a.cash = max(before - (abs(size) * price / t.leverage + fee), min(before, 0.0))
        held = abs(a.quantity)
        a.entry = (a.entry * held + price * abs(size)) / (held + abs(size))
        a.quantity += size
        self.book(size, price, fee, price - base if size > 0 else base - price)

    def book(self, size, price, fee, adverse):
        self.fee += fee
        self.notional += abs(size) * price
        self.cost += fee + abs(size) * max(adverse, 0.0)

    def affordable(self, size, price):
        paid = abs(size) * price / self.t.leverage + self.t.fee * abs(size) * price
        return paid <= self.a.cash * (1 + KAPPA)


def order(step, level, base, u, rules, blocked):
    """Section 13; returns whether the latch takes the level."""
    a, t = step.a, step.t
    q = a.quantity
    if level == a.last_level and q != 0:
        return True
    side = sign(target(equity(a, base, t), level, base, t) - q)
    px = price_of(base, side, u, t, rules)
    wanted = target(equity(a, px, t), level, px, t)
    tolerance = 0.0 if wanted == 0 else max(0.02 * abs(wanted), 1.0 / px)
    if q != 0 and abs(wanted - q) < tolerance:
        return True
    if rules.slippage_side == "adverse" and sign(wanted - q) != side:
        return True
    if wanted == 0 and q == 0:
        return True
    if blocked:
        step.event |= 16
        return not rules.retry_refused
    refused = False
    if wanted == 0 or q * wanted < 0:
        step.price = step.take_off(q, px, base)
        step.event |= 1
        step.closed_cash = a.cash
        size = target(a.cash, level, px, t)
        if wanted != 0 and size != 0:
            refused = not step.affordable(size, px)
            if not refused:
                step.put_on(size, px, base)
                step.event |= 2
                step.price = px
    elif q == 0:
        refused = not step.affordable(wanted, px)
        if not refused:
            step.put_on(wanted, px, base)
            step.event |= 2
            step.price = px
    elif abs(wanted) < abs(q):
        step.price = step.take_off(q - wanted, px, base)
        step.event |= 8
    else:
        size = wanted - q
        if not step.affordable(size, px):
            part = max(a.cash, 0.0) / (px * (1 / t.leverage + t.fee))
            refused = not rules.partial_increase or part < tolerance
            size = sign(size) * part
        if not refused:
            step.put_on(size, px, base)
            step.event |= 4
            step.price = px
    if refused:
        step.event |= 16
    return not (refused and rules.retry_refused)


def pass_bar(step, bar, u, rules):
    """Sections 14 and 16 without brackets."""
    a, t = step.a, step.t
    if t.spot or a.quantity == 0:
        return
    opening, high, low, _ = bar
    level = liquidation_price(a, t)
    if a.quantity > 0:
        if low > level:
            return
        base = min(opening, level)
    else:
        if high < level:
            return
        base = max(opening, level)
    fill = base
    if rules.exit_slippage:
        fill = base * (1 - sign(a.quantity) * (t.half_spread + t.slippage * u))
    fee = step.fee
    step.exit_kind = 1
    step.exit_price = step.take_off(a.quantity, fill, base)
    step.exit_fee = step.fee - fee


def transition(a, level, u, bar, following, rate, initial, t, rules, *, last):
    """Section 12: (account after, record) of one step from ``bar`` to ``following`` (o, h, l, c).

    ``last`` says that there is no following bar.
    """
    before = equity(a, bar[3], t)
    if last or before <= KAPPA * initial:
        step, funding, after, reward = Step(a, t), 0.0, before, 0.0
    else:
        step = Step(a, t)
        base, blocked = bar[3], False
        if rules.fill_at == "next_open":
            base = following[0]
            level_price = liquidation_price(a, t)
            if not t.spot and a.quantity != 0:
                blocked = (base <= level_price) if a.quantity > 0 else (base >= level_price)
        latches = order(step, level, base, u, rules, blocked)
        traded_quantity = step.a.quantity - a.quantity
        if latches:
            step.a.last_level = level
        pass_bar(step, following, u, rules)
        funding = step.a.quantity * following[3] * rate
        step.a.cash -= funding
        direction = sign(step.a.quantity)
        if direction == 0:
            step.a.held_bars = 0
        elif direction != step.a.held_direction:
            step.a.held_bars = 1
        else:
            step.a.held_bars += 1
        step.a.held_direction = direction
        after = equity(step.a, following[3], t)
        reward = t.ruin if after <= KAPPA * initial else math.log(after / before)
    record = {
        "event": step.event,
        "fill_price": step.price,
        "fill_quantity": traded_quantity if not (last or before <= KAPPA * initial) else 0.0,
        "exit_kind": step.exit_kind,
        "exit_price": step.exit_price,
        "exit_fee": step.exit_fee,
        "fee": step.fee,
        "traded_notional": step.notional,
        "cost": step.cost + funding,
        "funding": funding,
        "equity": after,
        "closed_cash": step.closed_cash,
        "reward": reward,
        "terminated": after < t.bankrupt * initial or after <= KAPPA * initial,
    }
    return step.a, record

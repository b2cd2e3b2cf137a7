"""Checks of the account: what the keys may do, whose it is, its settings, what is open there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import assert_never

from live.config import ExchangeEnvConfig, LiveConfig
from live.journal import ids
from live.journal.reading import JournalReader
from live.operations.control import Place
from live.operations.doctor_rows import Row, Verdict
from live.operations.doctor_venue import Visit
from live.secrets import confirm_account
from live.types import Configured, Flat, Held, MarginMode, Unknown
from live.venue import deadman_of

_MODES = "the start sets it and reads it back"


async def permissions(visit: Visit) -> AsyncIterator[Row]:
    """What the keys may do."""
    if visit.paper:
        yield Row("permissions", "key", Verdict.SKIP, "paper mode uses no keys")
        return
    words = (await visit.whose()).permissions
    if not words:
        text = "the venue does not describe this key"
        yield Row("permissions", "key", Verdict.SKIP, text)
        return
    if "trade" in words:
        yield Row("permissions", "trade", Verdict.OK, "trading is on")
    else:
        fix = "make a key that may trade derivatives"
        yield Row("permissions", "trade", Verdict.FAIL, "the key may not trade", fix)
    if "withdraw" not in words:
        yield Row("permissions", "withdraw", Verdict.OK, "withdrawing is off")
    elif visit.withdrawing:
        text = "the key may withdraw, which was accepted"
        yield Row("permissions", "withdraw", Verdict.WARN, text)
    else:
        fix = "make a key that may not, or accept it with --allow-withdraw-keys"
        yield Row("permissions", "withdraw", Verdict.FAIL, "the key may withdraw", fix)
    if "ip_list" in words:
        yield Row("permissions", "addresses", Verdict.OK, "bound to addresses")
    else:
        text, fix = "the key works from every address", "bind it to this machine's"
        yield Row("permissions", "addresses", Verdict.WARN, text, fix)


async def environment(visit: Visit) -> AsyncIterator[Row]:
    """Which host, whose account, and both switches of real money."""
    runner = visit.config.runner
    hosts = getattr(visit.venue, "hosts", None)
    place = f" at {hosts.rest}" if hosts is not None else ""
    yield Row("environment", "host", Verdict.OK, f"mode {runner.mode}{place}")
    if not visit.venue.capabilities.venue_stops:
        text = "the venue holds no stops: they end with this process"
        fix = "have a service manager restart it; --allow-local leaves such positions"
        yield Row("environment", "stops", Verdict.WARN, text, fix)
    if visit.paper:
        yield Row("environment", "account", Verdict.OK, "simulated on this machine")
        return
    account = await visit.whose()
    text = f"account {account.account_id}"
    if runner.mode == "live":
        confirm_account(visit.confirm or "", account.account_id, visit.keys["api_key"])
        text += ", confirmed"
    yield Row("environment", "account", Verdict.OK, text)


async def account(visit: Visit) -> AsyncIterator[Row]:
    """Assets and money."""
    if visit.paper:
        yield Row("account", "multi asset", Verdict.SKIP, "simulated on this machine")
    else:
        if (await visit.whose()).multi_asset:
            fix = "switch it off: equity of other assets must not size this one"
            yield Row("account", "multi asset", Verdict.FAIL, "is on", fix)
        else:
            yield Row("account", "multi asset", Verdict.OK, "is off")
    visit.balance = balance = await visit.venue.balance()
    text = f"{balance.equity:f} {balance.asset}, of which {balance.available:f} available"
    if not (balance.equity.is_finite() and balance.equity > 0):
        yield Row("account", "balance", Verdict.FAIL, text, "fund the account")
    elif not balance.available > 0:
        yield Row("account", "balance", Verdict.WARN, text, "everything is committed elsewhere")
    else:
        yield Row("account", "balance", Verdict.OK, text)


async def deadman(visit: Visit) -> AsyncIterator[Row]:
    """The venue's timer, where one is wanted; the start sets it."""
    wanted = int(visit.config.risk.deadman_seconds)
    if not wanted:
        return
    if visit.paper:
        yield Row("account", "dead man", Verdict.SKIP, "simulated on this machine")
        return
    found = await deadman_of(visit.venue)
    if found == wanted:
        yield Row("account", "dead man", Verdict.OK, f"{found} s")
    elif found is None:
        text = f"off, configured is {wanted} s"
        fix = "have the venue enable it for the account, or write [risk] deadman_seconds = 0"
        yield Row("account", "dead man", Verdict.WARN, text, fix)
    else:
        text = f"{found} s, configured is {wanted} s"
        yield Row("account", "dead man", Verdict.WARN, text, "the start sets it")


async def settings(visit: Visit) -> AsyncIterator[Row]:
    """How the symbol is set up at the venue."""
    if visit.paper:
        yield Row("account", "settings", Verdict.SKIP, "simulated on this machine")
        return
    for row in settings_rows(visit.env, await visit.venue.settings(visit.listed.symbol)):
        yield row


def settings_rows(env: ExchangeEnvConfig, found: Configured) -> list[Row]:
    """Settings of a symbol against those that are configured."""
    rows = []
    if found.margin_mode is env.margin_mode:
        rows.append(Row("account", "margin mode", Verdict.OK, found.margin_mode.value))
    else:
        text = f"{found.margin_mode.value}, configured is {env.margin_mode.value}"
        known = env.configure_account and found.margin_mode is not MarginMode.UNKNOWN
        fix = "it belongs to the whole account: change it there, or set [env] configure_account"
        verdict = Verdict.WARN if known else Verdict.FAIL
        rows.append(Row("account", "margin mode", verdict, text, _MODES if known else fix))
    for name, there, wanted in (
        ("position mode", found.position_mode.value, env.position_mode.value),
        ("leverage", f"{found.leverage.normalize():f}", f"{env.leverage:g}"),
    ):
        if there == wanted or (name == "leverage" and float(there) == env.leverage):
            rows.append(Row("account", name, Verdict.OK, there))
        else:
            text = f"{there}, configured is {wanted}"
            rows.append(Row("account", name, Verdict.WARN, text, _MODES))
    return rows


async def strangers(visit: Visit) -> AsyncIterator[Row]:
    """Position and orders of the symbol that no journal of this state folder explains."""
    if visit.paper:
        # To look would let its bars pass, which is for a run to do.
        yield Row("account", "position", Verdict.SKIP, "simulated on this machine")
        return
    listed = visit.listed
    position = await visit.venue.position(listed.symbol)
    orders = await visit.venue.orders(listed.symbol)
    account_id = (await visit.whose()).account_id
    owned = _booked(visit.config, account_id, listed.symbol)
    tag = ids.owner_tag(account_id, visit.config.runner.strategy_id, listed.symbol)
    policy = visit.config.env.foreign_position
    fix = f"[env] foreign_position is {policy!r}; close it by hand, or choose another"
    match position:
        case Unknown(reason):
            yield Row("account", "position", Verdict.FAIL, f"unknown: {reason}", "look there")
            return
        case Flat():
            quantity, text = Decimal(0), "flat"
        case Held() as held:
            quantity, text = held.quantity, f"{held.quantity:f} {listed.symbol}"
        case _:
            assert_never(position)
    if abs(quantity - owned) > listed.quantity_step:
        text = f"{text}, the journal explains {owned:f}"
        yield Row("account", "position", Verdict.WARN, text, fix)
    else:
        yield Row("account", "position", Verdict.OK, text)
    foreign = [
        order
        for order in orders
        # Legs that belong to the position carry no id; they are judged with it.
        if order.client_id and not ids.is_ours(order.client_id, tag)
    ]
    if foreign:
        text = f"{len(foreign)} of {len(orders)} orders are not of this strategy"
        yield Row("account", "orders", Verdict.WARN, text, fix)
    else:
        yield Row("account", "orders", Verdict.OK, f"{len(orders)} of ours")


def _booked(config: LiveConfig, account_id: str, symbol: str) -> Decimal:
    """What the journal of an account says it holds of a symbol, base units."""
    place = Place(config.runner.folder, config.journal.path, config.server)
    for path in place.journals:
        journal = JournalReader.view(path)
        try:
            if journal.meta("account_id") == account_id:
                return journal.position(symbol)
        finally:
            journal.close()
    return Decimal(0)

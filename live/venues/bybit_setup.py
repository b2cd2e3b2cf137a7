"""Whose account it is, and the settings of a symbol: set what may be set, then read all of it back.

The order is position mode, margin mode, leverage. Margin mode belongs to the whole unified account,
so it is only compared unless the caller may change it and nothing is open.
"""

from __future__ import annotations

import asyncio
import dataclasses
from decimal import Decimal

from live.secrets import Secret
from live.types import (
    AccountInfo,
    Ambiguous,
    Category,
    Certainty,
    Configured,
    Definitive,
    Instrument,
    MarginMode,
    PositionMode,
    UnreadableError,
)
from live.venues import bybit_market as market
from live.venues import bybit_parse as parse
from live.venues.bybit_client import BybitClient
from live.venues.bybit_fees import FeeRates
from live.venues.codes import Operation, RefusedReadError
from live.venues.rate import Lane

_MODES = {PositionMode.ONE_WAY: 0, PositionMode.HEDGE: 3}
_MARGINS = {MarginMode.ISOLATED: "ISOLATED_MARGIN", MarginMode.CROSS: "REGULAR_MARGIN"}
_TRIES, _PAUSE = 12, 0.25  # of a change that its limit does not let pass; seconds
# Any listed symbol tells the account's usual position mode.
_ANY_SYMBOL = "BTCUSDT"
# How a demo account may be refused its key's description: no such route, or not for it.
_NOT_FOR_DEMO = frozenset({"404", "10032"})


async def read_instrument(client: BybitClient, name: str, fees: FeeRates) -> Instrument:
    """The listed symbol, if it trades.

    Raises:
      ValueError: it is not listed or does not trade. UnreadableError: the venue did not say.
    """
    found = await read_listing(client, name, fees)
    if found.status != "trading":
        raise ValueError(f"bybit: {name} does not trade; its status is {found.status}.")
    return found


async def read_listing(client: BybitClient, name: str, fees: FeeRates) -> Instrument:
    """The listed symbol, with the account's fee and the first maintenance rate if they are told.

    Raises:
      ValueError: it is not listed. UnreadableError: the venue did not say.
    """
    query: dict[str, object] = {"category": "linear", "symbol": name}
    try:
        found = market.instrument(await client.read("market/instruments-info", query), name)
    except RefusedReadError as error:
        if error.category is not Category.OTHER:
            raise
        found = None  # how the venue answers for a symbol it does not know
    if found is None:
        raise ValueError(f"bybit: {name} is not listed as a perpetual in USDT.")
    fee, rate = await asyncio.gather(
        fees.taker(client, name),
        _maintenance_rate(client, name),
    )
    return dataclasses.replace(
        found,
        taker_fee=found.taker_fee if fee is None else fee,
        maintenance_rate=found.maintenance_rate if rate is None else rate,
    )


async def _maintenance_rate(client: BybitClient, name: str) -> Decimal | None:
    """The first maintenance rate, which has a usual value, if the venue tells it."""
    query: dict[str, object] = {"category": "linear", "symbol": name}
    try:
        return market.maintenance_rate(await client.read("market/risk-limit", query), name)
    except RefusedReadError as error:
        if error.category is Category.AUTH:
            raise
        return None
    except UnreadableError:
        return None


async def read_account(client: BybitClient, api_key: Secret, *, demo: bool) -> AccountInfo:
    """Account id, permissions and modes as the venue reports them.

    Demo accounts may be refused their key's description; the key then names the account, and what
    it may do stays unknown.

    Raises:
      UnreadableError: the venue did not say.
    """
    margin = parse.margin_mode(await client.read("account/info"))
    try:
        account_id, permissions = parse.permissions(await client.read("user/query-api"))
    except RefusedReadError as error:
        # A refusal that passes must not rename the account: its journal goes by this name.
        if not (demo and error.code in _NOT_FOR_DEMO):
            raise
        account_id, permissions = api_key.fingerprint, frozenset[str]()
    rows = await read_legs(client, _ANY_SYMBOL)
    return AccountInfo(account_id, permissions, margin, parse.position_mode(rows))


async def read_legs(
    client: BybitClient, symbol: str, lane: Lane = Lane.NORMAL
) -> tuple[parse.Leg, ...]:
    """The position rows of a symbol.

    Raises:
      UnreadableError: they make no sense.
    """
    reply = await client.read("position/list", {"category": "linear", "symbol": symbol}, lane=lane)
    return parse.legs(reply, symbol)


async def held_index(client: BybitClient, symbol: str) -> int:
    """The side of a hedge that is open.

    Raises:
      UnreadableError: both are or none is, or it could not be read.
    """
    held = [leg.index for leg in await read_legs(client, symbol, Lane.RESERVED) if leg.quantity]
    if len(held) != 1:
        raise UnreadableError(f"expected one open side of the hedge; got {len(held)}")
    return held[0]


async def read_settings(client: BybitClient, symbol: str) -> Configured:
    """Leverage, margin mode and position mode of a symbol.

    Raises:
      UnreadableError: they could not be read, or the sides of a hedge differ in leverage.
    """
    rows = await read_legs(client, symbol)
    leverages = {leg.leverage for leg in rows}
    if len(leverages) > 1:
        raise UnreadableError(f"bybit {symbol}: its sides have different leverage.")
    margin = parse.margin_mode(await client.read("account/info"))
    return Configured(leverages.pop(), margin, parse.position_mode(rows))


async def configure(
    client: BybitClient, symbol: str, wanted: Configured, *, account_wide: bool
) -> Configured:
    """Make the settings of a symbol as wanted, and return them as read back.

    Raises:
      ValueError: they are not as wanted afterwards. UnreadableError: they could not be read.
    """
    said: list[str] = []
    named: dict[str, object] = {"category": "linear", "symbol": symbol}
    before = await read_settings(client, symbol)
    if before == wanted:  # as after every start but the first
        return before
    if before.position_mode is not wanted.position_mode:
        mode = _MODES[wanted.position_mode]
        said += await _change(client, "position/switch-mode", {**named, "mode": mode})
    if before.margin_mode is not wanted.margin_mode:
        said += await _margin(client, wanted.margin_mode, account_wide=account_wide)
    if before.leverage != wanted.leverage:
        leverage = f"{wanted.leverage.normalize():f}"
        both = {"buyLeverage": leverage, "sellLeverage": leverage}
        said += await _change(client, "position/set-leverage", {**named, **both})
    after = await read_settings(client, symbol)
    if after != wanted:
        differs = ", ".join(
            f"{field.name} is {getattr(after, field.name)}, not {getattr(wanted, field.name)}"
            for field in dataclasses.fields(Configured)
            if getattr(after, field.name) != getattr(wanted, field.name)
        )
        why = f" ({'; '.join(said)})" if said else ""
        raise ValueError(f"bybit {symbol}: {differs}{why}.")
    return after


async def _margin(client: BybitClient, wanted: MarginMode, *, account_wide: bool) -> list[str]:
    if wanted not in _MARGINS:
        raise ValueError(f"margin mode: expected isolated or cross; got {wanted}.")
    if not account_wide:
        return ["the margin mode belongs to the account; configure_account=True may change it"]
    if await _anything_open(client):
        return ["the margin mode stays while the account holds positions or orders"]
    return await _change(client, "account/set-margin-mode", {"setMarginMode": _MARGINS[wanted]})


async def _anything_open(client: BybitClient) -> bool:
    """Whether the account has a position or an order; what cannot be read counts as open."""
    for what in ("position/list", "order/realtime"):
        reply = await client.read(what, {"category": "linear", "settleCoin": parse.SETTLE})
        for row in reply.result.rows("list"):
            if what == "order/realtime" or row.number("size") != 0:
                return True
    return False


async def _change(client: BybitClient, what: str, body: dict[str, object]) -> list[str]:
    """Change one setting; the words of a refusal, for the message after reading back."""
    for _ in range(_TRIES):
        answer = await client.send(what, Operation.CONFIGURE, body, lane=Lane.NORMAL)
        # What has certainly not left may wait for others that are being set up.
        if not (isinstance(answer, Definitive) and answer.category is Category.THROTTLED):
            break
        if answer.kind is not Certainty.NOT_SENT:
            break
        await asyncio.sleep(_PAUSE)
    match answer:
        case Definitive(kind=Certainty.ACCEPTED) | parse.Envelope():
            return []
        case Definitive():
            return [f"{what}: {answer.kind}, code {answer.code}: {answer.detail}"]
        case Ambiguous():
            return [f"{what}: {answer.reason}"]

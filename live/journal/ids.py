"""Client order ids: `jt`, 4 characters that name the owner, 13 of a growing number, 1 of the role.

20 characters of ``[0-9a-z]``, which every venue accepts. The number is written in a base 32 whose
digits sort like their values, so ids of one owner sort like the order in which they were given.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from live.types import Role

PREFIX = "jt"
LENGTH = 20
EPOCH_MS = 1_577_836_800_000  # 2020-01-01T00:00:00Z

_DIGITS = "0123456789abcdefghijklmnopqrstuv"
_VALUES = {digit: value for value, digit in enumerate(_DIGITS)}
_TAG, _NUMBER = 4, 13  # characters
_COUNTER_BITS, _TIME_BITS = 24, 41
_ROLES = {role.value: role for role in Role}


@dataclass(frozen=True, slots=True)
class ClientId:
    """What a client id says.

    Attributes:
      tag: of the owner. number: grows from id to id. time_ms: when it was given, milliseconds UTC;
        later than that if the clock had stepped back. role: of the order.
    """

    tag: str
    number: int
    time_ms: int
    role: Role


def owner_tag(account_id: str, strategy_id: str, symbol: str) -> str:
    """The 4 characters by which a strategy knows its orders of one symbol."""
    return _hashed(f"{account_id}:{strategy_id}:{symbol}", _TAG)


def account_tag(account_id: str) -> str:
    """8 characters that name an account without telling it; the file name of its journal."""
    return _hashed(account_id, 8)


def next_number(now_ms: int, counter: int, last: int) -> int:
    """A number above ``last``, from the time and a counter of the journal.

    The time part keeps numbers apart when a journal is lost, the counter within a millisecond; a
    clock that stepped back stands still here until it has caught up.

    Raises:
      ValueError: the time does not fit in 41 bits after 2020.
    """
    if not 0 <= now_ms - EPOCH_MS < 1 << _TIME_BITS:
        raise ValueError(
            f"client id: expected a time between 2020 and 2089, in milliseconds; got {now_ms}."
        )
    low = counter & ((1 << _COUNTER_BITS) - 1)
    time = max(now_ms - EPOCH_MS, last >> _COUNTER_BITS)
    number = time << _COUNTER_BITS | low
    if number <= last:  # the counter began again within one millisecond
        number = (time + 1) << _COUNTER_BITS | low
    return number


def client_id(tag: str, number: int, role: Role) -> str:
    """The id of an order, 20 characters."""
    return f"{PREFIX}{tag}{_written(number, _NUMBER)}{role.value}"


def parse(text: str) -> ClientId | None:
    """What an id says, or None where it has not the form of ours."""
    if len(text) != LENGTH or not text.startswith(PREFIX):
        return None
    tag, digits, role = text[2 : 2 + _TAG], text[2 + _TAG : -1], _ROLES.get(text[-1])
    if role is None or not all(character in _VALUES for character in tag + digits):
        return None
    number = 0
    for digit in digits:
        number = number * 32 + _VALUES[digit]
    return ClientId(tag, number, (number >> _COUNTER_BITS) + EPOCH_MS, role)


def is_ours(text: str, tag: str) -> bool:
    """Whether an order found at a venue carries an id of this owner; anything else is foreign."""
    parsed = parse(text)
    return parsed is not None and parsed.tag == tag


def role_of(text: str) -> Role | None:
    """The role that an id names, or None where it has not the form of ours."""
    parsed = parse(text)
    return None if parsed is None else parsed.role


def _hashed(text: str, characters: int) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    value = int.from_bytes(digest) >> (8 * len(digest) - 5 * characters)
    return _written(value, characters)


def _written(number: int, characters: int) -> str:
    digits = []
    for _ in range(characters):
        number, low = divmod(number, 32)
        digits.append(_DIGITS[low])
    return "".join(reversed(digits))

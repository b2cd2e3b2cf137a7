"""Client ids: 20 characters that every venue takes, that grow, and that name owner and role."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live.journal import ids
from live.types import Role

NOW = 1_750_000_000_000
TAG = ids.owner_tag("account", "default", "BTCUSDT")


def test_an_id_has_the_form_that_every_venue_takes():
    text = ids.client_id(TAG, ids.next_number(NOW, 7, 0), Role.STOP)
    assert re.fullmatch(r"jt[0-9a-v]{4}[0-9a-v]{13}s", text)
    assert len(text) == ids.LENGTH == 20
    assert ids.parse(text) == ids.ClientId(TAG, (NOW - ids.EPOCH_MS) << 24 | 7, NOW, Role.STOP)


def test_the_tag_is_of_account_strategy_and_symbol():
    tags = {
        ids.owner_tag(account, strategy, symbol)
        for account in ("a", "b")
        for strategy in ("x", "y")
        for symbol in ("BTCUSDT", "ETHUSDT")
    }
    assert len(tags) == 8
    # Pinned: orders that rest at a venue must be known again by a later version.
    assert ids.owner_tag("account", "default", "BTCUSDT") == TAG == "mcpu"
    assert len(ids.account_tag("account")) == 8


@pytest.mark.parametrize("role", list(Role))
def test_the_role_is_the_last_letter(role: Role):
    text = ids.client_id(TAG, 1, role)
    assert text[-1] == role.value
    assert ids.role_of(text) is role
    assert ids.is_ours(text, TAG)
    assert not ids.is_ours(text, ids.owner_tag("account", "default", "ETHUSDT"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x" * 20,
        "jt",
        f"jt{TAG}{'0' * 13}q",  # no such role
        f"jt{TAG}{'0' * 12}s",  # too short
        f"jt{TAG}{'0' * 14}s",
        f"JT{TAG}{'0' * 13}s",
        f"jt{TAG}{'0' * 12}zs",  # no digit of the base
        f"jt{TAG}{'0' * 12}٣s",  # a digit, but not of ours
        "autoclose-1234567890",
    ],
)
def test_anything_else_is_foreign(text: str):
    assert ids.parse(text) is None
    assert ids.role_of(text) is None
    assert not ids.is_ours(text, TAG)


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.integers(ids.EPOCH_MS, NOW + 10**9),  # the clock may step back and forth
            st.integers(0, 2**26),
            st.sampled_from(list(Role)),
        ),
        max_size=20,
    )
)
def test_ids_grow_whatever_the_clock_does(calls: list[tuple[int, int, Role]]):
    last, texts = 0, []
    for now, counter, role in calls:
        number = ids.next_number(now, counter, last)
        assert number > last
        texts.append(ids.client_id(TAG, number, role))
        parsed = ids.parse(texts[-1])
        assert parsed is not None and (parsed.number, parsed.role) == (number, role)
        last = number
    assert [text[:-1] for text in texts] == sorted(text[:-1] for text in texts)


def test_another_millisecond_is_another_id_when_the_journal_is_lost():
    assert ids.next_number(NOW, 1, 0) != ids.next_number(NOW + 1, 1, 0)


@pytest.mark.parametrize("now", [0, ids.EPOCH_MS - 1, ids.EPOCH_MS + 2**41])
def test_a_time_outside_of_the_range_is_refused(now: int):
    with pytest.raises(ValueError, match="expected a time between 2020 and 2089"):
        ids.next_number(now, 0, 0)

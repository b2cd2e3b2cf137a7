"""What a restart remembers: nothing that the venue does not confirm."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

import pytest

from live.exchange.opening import default_instrument
from live.journal import Journal
from live.trading.restoring import beginning, restored
from live.types import (
    Bracket,
    Certainty,
    Definitive,
    Fill,
    FillKind,
    Flat,
    Held,
    Intent,
    IntentKind,
    MarginMode,
    Side,
)
from tests.live.journaling import BAR, HOUR, SYMBOL, entry, leaving, opened

INSTRUMENT = dataclasses.replace(default_instrument(), symbol=SYMBOL)
END = BAR + HOUR  # of the bar that was decided on


def decided(journal: Journal, level: float, decision: str, *intents: Intent, **changes):
    """A decision of the bar, its intents sent and accepted."""
    fields = {"action": 1, "refusal": None, "observation": b"", "policy_ms": 0.0, **changes}
    given = journal.decide(
        SYMBOL, BAR, level=level, decision=decision, fallback=False, intents=intents, **fields
    )
    for intent in given:
        journal.sent(intent.client_id)
        journal.resolve(intent.client_id, Definitive(Certainty.ACCEPTED))
    return given


def traded(journal: Journal, signed: str, at_ms: int, client_id: str = "", trade_id: str = "t1"):
    quantity = Decimal(signed)
    fill = Fill(
        trade_id=trade_id,
        client_id=client_id,
        venue_order_id="o",
        side=Side.of(quantity),
        quantity=abs(quantity),
        price=Decimal(100),
        fee=Decimal(0),
        fee_asset="USDT",
        kind=FillKind.TRADE,
        venue_time_ms=at_ms,
    )
    assert journal.book(SYMBOL, fill, "rest")


def held(quantity: str, stop: str | None = None) -> Held:
    price = Decimal(100)
    legs = (None, None) if stop is None else (Decimal(stop), Decimal(110))
    margin = MarginMode.ISOLATED
    return Held(Decimal(quantity), price, price, Decimal(0), Decimal(3), margin, None, 0, *legs)


def remembered(journal: Journal, position: Flat | Held, bars: int = 0, *, brackets: bool = False):
    """What is restored ``bars`` bars after the one the decision was carried out in."""
    return restored(
        journal,
        position,
        INSTRUMENT,
        bar_ms=HOUR,
        counted_bar_ms=BAR + bars * HOUR,
        brackets=brackets,
    )


@pytest.fixture
def journal():
    return opened(None)


def bought(journal: Journal, quantity: str = "0.5") -> None:
    order = entry(kind=IntentKind.MARKET, bracket=None)
    (given,) = decided(journal, 1.0, "open", order)
    traded(journal, quantity, END + 1000, given.client_id)


@pytest.mark.parametrize("bars", [0, 1, 7])
def test_a_position_that_its_decision_led_to_keeps_level_and_age(journal: Journal, bars: int):
    bought(journal)
    state = remembered(journal, held("0.5"), bars)
    assert (state.last_level, state.direction, state.target_quantity) == (1.0, 1, Decimal("0.5"))
    assert state.held_bars == bars, "the next look counts its own bar"


def test_a_position_that_was_filled_in_part_has_no_level(journal: Journal):
    bought(journal, "0.3")
    assert remembered(journal, held("0.3")).last_level is None


@pytest.mark.parametrize("found", ["0.4", "-0.5"])
def test_a_position_that_the_journal_does_not_explain_has_no_level(journal: Journal, found: str):
    bought(journal)
    state = remembered(journal, held(found), 3)
    assert (state.last_level, state.target_quantity) == (None, Decimal(found))
    assert state.direction * Decimal(found) > 0
    assert state.held_bars == (3 if found == "0.4" else 0)


def test_a_later_trade_of_another_releases_the_level(journal: Journal):
    bought(journal)
    traded(journal, "-0.1", END + 2000, trade_id="t2")
    traded(journal, "0.1", END + 3000, trade_id="t3")
    state = remembered(journal, held("0.5"), 2)
    assert (state.last_level, state.held_bars) == (None, 2)


def test_half_a_flip_is_flat_without_a_level(journal: Journal):
    traded(journal, "0.5", BAR, trade_id="t0")
    (given,) = decided(journal, -1.0, "flip", leaving())
    traded(journal, "-0.5", END + 1000, given.client_id)
    state = remembered(journal, Flat())
    assert (state.last_level, state.direction, state.held_bars) == (None, 0, 0)
    assert beginning(journal, SYMBOL) is None


def test_a_close_keeps_the_level_of_flat_and_a_refusal_keeps_none(journal: Journal):
    traded(journal, "0.5", BAR, trade_id="t0")
    (given,) = decided(journal, 0.0, "close", leaving())
    traded(journal, "-0.5", END + 1000, given.client_id)
    assert remembered(journal, Flat()).last_level == 0.0
    other = opened(None)
    decided(other, 0.0, "hold", refusal="state")
    assert remembered(other, Flat()).last_level is None


def test_legs_are_those_of_the_venue_else_those_of_this_position(journal: Journal):
    (given,) = decided(journal, 1.0, "open", entry())
    traded(journal, "0.5", END + 1000, given.client_id)
    asked, confirmed = Bracket(Decimal(95), Decimal(100)), Bracket(Decimal(96), Decimal(101))
    assert remembered(journal, held("0.5"), brackets=True).bracket == asked
    at_venue = remembered(journal, held("0.5", "94"), brackets=True).bracket
    assert at_venue == Bracket(Decimal(94), Decimal(110))
    journal.set_protection(SYMBOL, confirmed, Decimal("0.5"))  # of an earlier position
    assert remembered(journal, held("0.5"), brackets=True).bracket == asked
    later = opened(None, now_ms=lambda: END + 5000)
    traded(later, "0.5", END + 1000)
    later.set_protection(SYMBOL, confirmed, Decimal("0.5"))
    assert remembered(later, held("0.5"), brackets=True).bracket == confirmed
    assert remembered(journal, held("0.5", "94")).bracket is None, "levels have no legs"

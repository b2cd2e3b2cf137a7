"""Steps, ticks and the text that is sent."""

from __future__ import annotations

from decimal import Decimal, getcontext

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from live.planner import rounding
from live.types import Instrument

D = Decimal


def instrument(step="0.001", tick="0.1", least="0", notional="0"):
    return Instrument(
        venue="bybit",
        symbol="BTC/USDT:USDT",
        venue_symbol="BTCUSDT",
        base="BTC",
        quote="USDT",
        settle="USDT",
        contract_size=D(1),
        quantity_step=D(step),
        min_quantity=D(least),
        max_market_quantity=D(0),
        tick=D(tick),
        min_notional=D(notional),
        max_leverage=D(100),
        taker_fee=D("0.00055"),
        maintenance_rate=D("0.005"),
    )


STEPS = st.sampled_from(["0.001", "1e-06", "0.00001", "0.5", "1", "10", "0.025", "1E+1", "0.0010"])
AMOUNTS = st.decimals("0.000001", "1000000", places=12)


@pytest.mark.parametrize(
    ("quantity", "step", "expected"),
    [
        (0.29, "0.01", "0.29"),
        (0.1 + 0.2, "0.1", "0.3"),
        (0.7 * 3, "0.7", "2.1"),
        (0.0129999, "0.001", "0.012"),
        (1.0000019999, "1e-06", "1.000001"),
        (123.456, "10", "120"),
        (0.9999, "1", "0"),
        (1e9 + 0.3, "0.1", "1000000000.3"),
    ],
)
def test_quantities_go_down_and_exact_multiples_keep_their_last_step(quantity, step, expected):
    assert rounding.floor_quantity(rounding.exact(quantity), instrument(step)) == D(expected)


@given(quantity=AMOUNTS, step=STEPS)
def test_a_floored_quantity_is_on_the_grid_below_by_less_than_a_step(quantity, step):
    floored = rounding.floor_quantity(quantity, instrument(step))
    assert rounding.is_multiple(floored, D(step))
    noise = D(step) * max(D("1e-9"), quantity / D(step) * D("1e-12"))
    assert -noise <= quantity - floored < D(step)
    assert rounding.floor_quantity(floored, instrument(step)) == floored


@given(count=st.integers(0, 10**9), step=STEPS)
def test_every_multiple_survives_float64(count, step):
    multiple = count * D(step)
    assert rounding.floor_quantity(rounding.exact(float(multiple)), instrument(step)) == multiple


def test_a_step_of_zero_rounds_nothing():
    free = instrument("0", "0")
    odd = D("0.1234567890123456789")
    assert rounding.floor_quantity(odd, free) == odd
    assert rounding.nearest_tick(odd, free) == odd
    assert rounding.stop_tick(odd, D(1), 1, free) == odd
    assert rounding.smallest_order(D(100), free) == 0


@pytest.mark.parametrize("bad", [D("NaN"), D("Infinity"), D(-1)])
def test_unusable_numbers_are_refused(bad):
    with pytest.raises(ValueError, match=r"must be finite and >= 0; got"):
        rounding.floor_quantity(bad, instrument())
    with pytest.raises(ValueError, match=r"must be finite and >= 0; got"):
        rounding.nearest_tick(bad, instrument())
    with pytest.raises(ValueError):
        rounding.stop_tick(bad, D(100), 1, instrument())
    with pytest.raises(ValueError, match=r"mark: must be finite and > 0"):
        rounding.stop_tick(D(100), bad, 1, instrument())


def test_only_finite_floats_become_decimals():
    assert rounding.exact(0.1) == D("0.1")
    assert float(rounding.exact(1 / 3)) == 1 / 3
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="must be finite"):
            rounding.exact(bad)


@pytest.mark.parametrize(
    ("price", "mark", "side", "expected"),
    [
        ("97.51", "100", 1, "97.6"),
        ("97.5", "100", 1, "97.5"),
        ("102.49", "100", -1, "102.4"),
        ("99.99", "100", 1, "99.9"),
        ("101", "100.04", 1, "99.9"),  # already passed: the nearest legal one
        ("100.01", "100", -1, "100.1"),
        ("99", "100.04", -1, "100.2"),
    ],
)
def test_stops_go_toward_the_mark_and_stay_a_tick_away(price, mark, side, expected):
    assert rounding.stop_tick(D(price), D(mark), side, instrument()) == D(expected)


def test_the_noise_of_float64_does_not_move_a_stop():
    assert rounding.stop_tick(rounding.exact(100 * 0.975), D(100), 1, instrument()) == D("97.5")
    noisy = rounding.exact(97.50000000000001)
    assert rounding.stop_tick(noisy, D(100), 1, instrument()) == D("97.5")
    noisy = rounding.exact(102.49999999999999)
    assert rounding.stop_tick(noisy, D(100), -1, instrument()) == D("102.5")


def test_a_stop_that_does_not_fit_below_the_mark_is_refused():
    with pytest.raises(ValueError, match=r"no tick of 1 lies between 0 and the mark 1\.5"):
        rounding.stop_tick(D("0.9"), D("1.5"), 1, instrument(tick="1"))


@given(
    mark=st.decimals("0.5", "100000", places=6),
    fraction=st.decimals("0.001", "0.9", places=6),
    side=st.sampled_from([1, -1]),
    tick=st.sampled_from(["0.1", "0.01", "0.5", "1e-06", "0.00025"]),
)
def test_a_stop_is_always_on_the_losing_side(mark, fraction, side, tick):
    assume(mark > 2 * D(tick))
    wanted = mark * (1 - side * fraction)
    stop = rounding.stop_tick(wanted, mark, side, instrument(tick=tick))
    assert rounding.is_multiple(stop, D(tick))
    assert side * (mark - stop) >= D(tick)
    if abs(mark - wanted) >= 2 * D(tick):  # room enough: only toward the mark, by less than a tick
        assert -D("1e-6") * D(tick) <= side * (stop - wanted) < D(tick)


def test_targets_go_to_the_nearest_tick():
    for price, expected in (("102.54", "102.5"), ("102.56", "102.6"), ("0.04", "0")):
        assert rounding.nearest_tick(D(price), instrument()) == D(expected)


@pytest.mark.parametrize(
    ("least", "notional", "price", "expected"),
    [
        ("0.001", "0", 50000, "0.001"),
        ("0.001", "100", 50000, "0.002"),
        ("0", "0", 50000, "0.001"),
        ("0.001", "5", 0.3, "16.667"),
    ],
)
def test_the_smallest_order_meets_every_minimum(least, notional, price, expected):
    listed = instrument("0.001", least=least, notional=notional)
    smallest = rounding.smallest_order(D(str(price)), listed)
    assert smallest == D(expected)
    assert smallest * D(str(price)) >= D(notional)


@pytest.mark.parametrize(
    ("held", "difference", "expected"),
    [
        ("1", "0.25", "0.25"),
        ("1", "0.2501", "0.25"),
        ("1", "0.01", "0.1"),  # clamped up to the minimum
        ("0.15", "0.01", "0"),  # which would leave less than the minimum
        ("1", "0.95", "1"),  # the rest that is wanted is below it
        ("0.1", "0.05", "0.1"),
    ],
)
def test_a_trim_closes_everything_only_below_the_minimum(held, difference, expected):
    listed = instrument("0.01", least="0.1")
    assert rounding.trim(D(held), D(difference), D(100), listed) == D(expected)


@given(
    held=st.decimals("0.2", "1000", places=3),
    share=st.decimals("0.001", "0.999", places=3),
    step=st.sampled_from(["0", "0.001", "0.01", "0.1"]),
    least=st.sampled_from(["0", "0.001", "0.1"]),
    notional=st.sampled_from(["0", "5"]),
)
def test_a_trim_never_exceeds_the_position_nor_leaves_dust(held, share, step, least, notional):
    listed, difference = instrument(step, least=least, notional=notional), held * share
    quantity = rounding.trim(held, difference, D(10), listed)
    assert 0 <= quantity <= held
    if quantity == held:
        assert held - difference < D(least)
    elif quantity:
        assert held - quantity >= D(least)
        assert quantity >= rounding.smallest_order(D(10), listed)
        assert quantity <= max(difference, rounding.smallest_order(D(10), listed)) + D("1e-9")


@given(held=AMOUNTS, step=STEPS)
def test_a_close_takes_everything_that_orders_fit(held, step):
    closed = rounding.closing(held, instrument(step))
    assert 0 <= held - closed < D(step)
    assert rounding.is_multiple(closed, D(step))
    assert closed == held or not rounding.is_multiple(held, D(step))


@pytest.mark.parametrize(
    ("number", "step", "text"),
    [
        ("0.29", "0.01", "0.29"),
        ("0.5", "0.001", "0.500"),
        ("7", "1", "7"),
        ("120", "1E+1", "120"),
        ("0.000001", "1e-06", "0.000001"),
        ("1E+3", "0.5", "1000.0"),
        ("-0.0", "0.1", "0.0"),
        ("1E-7", "0", "0.0000001"),
    ],
)
def test_numbers_are_sent_without_an_exponent(number, step, text):
    assert rounding.wire(D(number), D(step)) == text


@given(count=st.integers(0, 10**12), step=STEPS)
def test_what_is_sent_reads_back_exactly(count, step):
    text = rounding.wire(count * D(step), D(step))
    assert D(text) == count * D(step)
    assert "e" not in text.lower()


@pytest.mark.parametrize("number", ["0.291", "NaN", "Infinity"])
def test_what_is_off_the_grid_is_not_rounded_a_second_time(number):
    with pytest.raises(ValueError, match=r"must be a multiple of 0\.01"):
        rounding.wire(D(number), D("0.01"))


def test_the_context_of_the_caller_does_not_matter():
    narrow = getcontext().copy()
    try:
        getcontext().prec = 4
        assert rounding.floor_quantity(D("123456.789"), instrument("0.001")) == D("123456.789")
        assert rounding.wire(D("123456.789"), D("0.001")) == "123456.789"
    finally:
        getcontext().prec = narrow.prec


@pytest.mark.parametrize(
    ("held", "step", "taken"),
    [
        ("0.3", "0.1", "0.3"),
        ("0.35", "0.1", "0.3"),
        ("0.2999999999999", "0.1", "0.2"),
        ("0.05", "0.1", "0"),
        ("0.123456789012345678901", "0", "0.123456789012345678901"),
    ],
)
def test_a_close_takes_whole_steps_and_never_more_than_is_held(held, step, taken):
    assert rounding.closing(D(held), instrument(step)) == D(taken)

"""The worked numbers of the offline semantics, through the environment, in float64."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest

from jaxtrade import Rules, trace
from tests.envs.builders import (
    MINUTES,
    REFERENCE,
    env_on,
    flat_frame,
    frame_of,
    golden_frame,
    label,
)

RULES = {"default": Rules(), "reference": REFERENCE}
NAN = float("nan")


@functools.cache
def compiled(spot, levels, rules):
    """What differs in nothing but parameters and prices shares one compiled environment."""
    return env_on(
        flat_frame(),
        leverage=1 if spot else 2,
        action_levels=levels,
        random_start=False,
        rules=rules,
    )


def run(frame, actions, *, start=1, **fields):
    env = env_on(frame, random_start=False, **fields)
    config = env.config
    with jax.enable_x64(True):
        params = env.params()
    shared = compiled(config.spot, config.levels, config.rules)
    return trace(shared, actions, params=params, start=label(start), float64=True)


def check(values, expected, digits):
    """Printed digits are rounded, some after adding rounded parts: one unit of the last digit."""
    np.testing.assert_allclose(values, expected, rtol=0, atol=1.01 * 10.0**-digits)


G1 = {
    "event": [2, 0, 8, 4, 0, 1, 2, 1],
    "fee": [0.999000999, 0, 0.509999491, 0.508442128, 0, 0.930989996, 0.464834130, 0.484202218],
    "cash": [0, 0, 509.489492, 0.538922, 0.538922, 930.597928, 465.298964, 949.016980],
    "quantity": [
        *(9.990009990, 9.990009990, 4.990014980, 9.697812459),
        *(9.697812459, 0, 4.842022185, 0),
    ],
    "entry_price": [100, 100, 100, 103.883595, 103.883595, 0, 96, 0],
    "equity": [
        *(1038.961039, 1018.981019, 1048.411109, 1047.902667),
        *(931.528918, 930.597928, 949.501182, 949.016980),
    ],
    "reward": [
        *(0.038221213, -0.019418086, 0.028472662, -0.000485082),
        *(-0.117718752, -0.000999921, 0.020109463, -0.000510084),
    ],
    "account_state": [
        (1, 1, 0.04, 1, 1, 1),
        (1, 1, 0.02, 2, 1, 1),
        (0.514037, 1, 0.08, 3, 1, 1),
        (0.999486, 1, 0.039625, 4, 1, 1),
        (0.999421, 1, -0.075889, 5, 1, 1),
        (0, 0, 0, 0, 1, 1),
        (0.509954, 1, 0.041667, 1, 1, 1),
        (0, 0, 0, 0, 1, 1),
    ],
}
STATES = {"cash": 6, "quantity": 9, "entry_price": 6, "equity": 6, "liquidation_price": 6}
STEPS = {"fee": 9, "reward": 9}


def check_table(record, table, first=1):
    """Compare a golden table with a record; rows are the steps first, first + 1, ..."""
    if "event" in table:
        np.testing.assert_array_equal(record["event"][first - 1 :], table["event"])
    for name, digits in STEPS.items():
        if name in table:
            check(record[name][first - 1 :], table[name], digits)
    for name, digits in STATES.items():
        if name in table:
            check(record[name][first:], table[name], digits)
    if "account_state" in table:
        check(record["account_state"][first:], table["account_state"], 6)


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_g1_spot(rules):
    record = run(
        golden_frame(),
        [2, 2, 1, 2, 2, 0, 1, 0],
        transaction_fee=0.001,
        initial_cash=1000,
        rules=rules,
    )
    check_table(record, G1)
    np.testing.assert_array_equal(record["account_state"][0], (0, 0, 0, 0, 1, 1))
    assert not record["liquidation_price"].any()
    np.testing.assert_array_equal(record["fill_price"], [100, NAN, 102, 108, NAN, 96, 96, 100])
    check(record["fee"].sum(), 3.8974689621, 9)
    check(record["traded_notional"].sum(), 3897.4689621, 7)


G2_ACTIONS = [3, 4, 3, 1, 0, 2, 4, 0, 0]
G2_FIELDS = {"leverage": 5, "transaction_fee": 0.0005, "initial_cash": 1000}
G2 = {
    "event": [2, 16, 4, 3, 4, 1, 2, 3, 0],
    "fee": [
        *(1.246882793, 0, 0.035696295, 2.881977876, 1.493813848),
        *(2.658988649, 4.638729710, 10.411114063, 0),
    ],
    "cash": [500, 500, 485.685786, 600.516901, 1.497548, 1860.130614, 0, 0, 0],
    "quantity": [
        *(24.937655860, 24.937655860, 25.637583222, -27.732377447, -55.395596845),
        *(0, 96.640202293, -111.582078957, -111.582078957),
    ],
    "entry_price": [100, 100, 100.054602, 108, 108, 0, 96, 100, 100],
    "liquidation_price": [80.4, 80.4, 80.443900, 129.168, 129.168, 0, 77.184, 119.6, 119.6],
    "equity": [
        *(1098.503741, 1048.628429, 1202.418232, 1199.536254, 1862.789602),
        *(1860.130614, 2242.052693, 2566.387816, 2566.387816),
    ],
    "reward": [
        *(0.093949018, -0.046465966, 0.136851670, -0.002399695, 0.440140123),
        *(-0.001428443, 0.186745119, 0.135107564, 0),
    ],
    "account_state": [
        (2.360953, 1, 0.04, 1, 5, 0.226923),
        (2.425684, 1, 0.02, 2, 5, 0.211765),
        (2.302742, 1, 0.079411, 3, 5, 0.255149),
        (2.496879, -1, 0, 1, 5, 0.196),
        (2.854846, -1, 0.111111, 2, 5, 0.3455),
        (0, 0, 0, 0, 5, 1),
        (4.310345, 1, 0.041667, 1, 5, 0.22816),
        (4.217391, -1, 0.03, 1, 5, 0.23299),
        (4.217391, -1, 0.03, 2, 5, 0.23299),
    ],
}
G2_DEFAULT = {
    "event": [4, 8, 3, 4, 1, 2, 3, 0],
    "cash": [0, 498.943287, 571.732081, 1.425766, 1770.968217, 0, 0, 0],
    "quantity": [
        *(48.916171111, 24.434612382, -26.403070134, -52.740297200),
        *(0, 92.007908222, -106.233569842, -106.233569842),
    ],
    "entry_price": [101.960784, 101.960784, 108, 108, 0, 96, 100, 100],
    "equity": [
        *(999.424516, 1144.783630, 1142.038396, 1773.499752),
        *(1770.968217, 2134.583471, 2443.372106, 2443.372106),
    ],
    "reward": [
        *(-0.094524668, 0.135791300, -0.002400918, 0.440140123),
        *(-0.001428443, 0.186745119, 0.135107564, 0),
    ],
}


def test_g2_futures_reference_rules():
    record = run(golden_frame(), G2_ACTIONS, rules=REFERENCE, **G2_FIELDS)
    check_table(record, G2)
    np.testing.assert_array_equal(record["account_state"][0], (0, 0, 0, 0, 5, 1))
    check(record["fee"].sum(), 23.3672032331, 9)


def test_g2_futures_default_rules():
    record = run(golden_frame(), G2_ACTIONS, **G2_FIELDS)
    check_table({k: v[:2] for k, v in record.items() if k in STATES}, first_row(G2))
    check_table(record, G2_DEFAULT, first=2)


def first_row(table):
    return {name: values[:1] for name, values in table.items() if name in STATES}


G3_FIELDS = {
    "leverage": 10,
    "transaction_fee": 0.0004,
    "initial_cash": 10000,
    "action_levels": (-1, -0.3, 0, 0.3, 1),
}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
@pytest.mark.parametrize(
    ("action", "bar4", "quantity", "exit_price", "cash", "reward"),
    [
        (4, {"low": 88}, 996.015936255, 90.4, 362.390438, -3.313626161),
        (0, {"high": 112}, -996.015936255, 109.6, 354.741036, -3.334960304),
    ],
    ids=["a", "b"],
)
def test_g3_liquidation_ends_the_episode(rules, action, bar4, quantity, exit_price, cash, reward):
    record = run(flat_frame(bar4=bar4), [action] * 5, rules=rules, **G3_FIELDS)
    check(record["quantity"], [0, quantity, quantity, 0], 9)
    check(record["cash"], [10000, 0, 0, cash], 6)
    check(record["equity"][1], 9960.159363, 6)
    check(record["reward"][2], reward, 9)
    np.testing.assert_array_equal(record["exit_kind"], [0, 0, 1])
    check(record["exit_price"], [NAN, NAN, exit_price], 9)
    np.testing.assert_array_equal(record["terminated"], [False, False, True])
    np.testing.assert_array_equal(record["truncated"], [False, False, False])


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
@pytest.mark.parametrize(
    ("action", "bar4", "opened", "exit_price", "reopened"),
    [
        (3, {"open": 85, "low": 84}, 298.804780876, 90.0360144, 209.163346614),
        (1, {"open": 116, "high": 117}, -298.804780876, 109.9560176, -209.163346614),
    ],
    ids=["c", "d"],
)
def test_g3_gap_past_bankruptcy_costs_the_margin_and_reopens(
    rules, action, bar4, opened, exit_price, reopened
):
    record = run(flat_frame(bar4=bar4), [action] * 4, rules=rules, **G3_FIELDS)
    check(record["quantity"], [0, opened, opened, 0, reopened], 9)
    assert record["cash"][3] == 7000  # to the bit
    check(record["cash"][4], 4900, 6)
    check(record["exit_price"][2], exit_price, 7)
    check(record["reward"][2], -0.355479010, 9)
    np.testing.assert_array_equal(record["event"], [2, 0, 0, 2])
    assert not record["terminated"].any()


NEXT_OPEN_ROWS = [
    (100, 101, 99, 100),
    (100, 101, 99, 100),
    (102, 105, 101, 104),
    (103, 104, 100, 101),
    *[(101, 101, 101, 101)] * 9,
]


@pytest.mark.parametrize(
    ("fill_at", "prices", "quantity", "equity"),
    [
        ("next_open", [102, 103], 9.794127441, [1000, 1018.589254, 1007.786331]),
        ("close", [100, 104], 9.990009990, [1000, 1038.961039, 1037.922078]),
    ],
)
def test_next_open_worked(fill_at, prices, quantity, equity):
    record = run(
        frame_of(NEXT_OPEN_ROWS),
        [2, 0],
        transaction_fee=0.001,
        initial_cash=1000,
        rules=Rules(fill_at=fill_at),
    )
    np.testing.assert_array_equal(record["fill_price"], prices)
    check(record["quantity"][1], quantity, 9)
    check(record["equity"], equity, 6)
    assert record["cash"][2] == record["equity"][2]


@pytest.mark.parametrize("action", [0, 1, 2], ids=["flip", "close", "grow"])
def test_next_open_refuses_the_order_of_a_position_the_open_liquidates(action):
    """Held long from 100 at L 5 (LQ 80.4): an open of 79 liquidates, whatever was ordered."""
    frame = flat_frame(bar4={"open": 79, "low": 79})
    record = run(
        frame,
        [3, 3, action],
        leverage=5,
        action_levels=(-1, 0, 1, 0.5),
        rules=Rules(fill_at="next_open"),
    )
    assert record["event"][2] == 16
    assert record["exit_kind"][2] == 1
    assert record["exit_price"][2] == 80  # bankruptcy price, no fee
    assert record["quantity"][3] == 0
    check(record["cash"][3], 5000, 6)


@pytest.mark.parametrize(
    ("actions", "cash", "exit_kind"),
    [([4, 4], 200, 1), ([4, 2], 10000, 0), ([4, 0], 10000, 0)],
    ids=["hold", "close", "flip"],
)
def test_order_on_the_bar_before_a_crash_is_honoured(actions, cash, exit_kind):
    record = run(flat_frame(bar3={"low": 70}), actions, leverage=5)
    check(record["equity"][2], cash, 6)
    assert record["exit_kind"][1] == exit_kind
    assert (record["quantity"][2] < 0) == (actions[1] == 0)


COSTS = {"half_spread": 0.0005, "slippage": 0.001}


def test_costs_worked_in_spot():
    record = run(flat_frame(), [2, 0], transaction_fee=0.001, initial_cash=1000, **COSTS)
    check(record["fill_price"], [100.1, 99.9], 9)
    check(record["quantity"][1:], [9.980029960, 0], 9)
    check(record["cash"][1:], [0, 996.007988], 6)
    check(record["fee"], [0.999000999, 0.997004993], 9)
    check(record["equity"][1], 998.002996, 6)
    check(record["reward"], [-0.001999001, -0.002001001], 9)
    # The cost of an order is its fee and the distance to the un-slipped price.
    check(record["cost"], record["fee"] + 9.980029960 * 0.1, 8)


FUTURES_COSTS = {"leverage": 10, "transaction_fee": 0.0004, **COSTS}


def test_costs_worked_short():
    record = run(flat_frame(), [0, 2], **FUTURES_COSTS)
    check(record["fill_price"], [99.9, 100.1], 9)
    check(record["quantity"][1], -997.012949204, 9)
    check(record["liquidation_price"][1], 109.4904, 6)
    check(record["equity"][1:], [9860.458068, 9720.836374], 6)


def test_costs_worked_flip():
    record = run(flat_frame(), [3, 1], **FUTURES_COSTS)
    check(record["fill_price"], [100.1, 99.9], 9)
    check(record["quantity"][1:], [497.510457670, -491.562133441], 9)
    check(record["fee"][1], 19.880517888 + 19.642822852, 8)
    check(record["equity"][1:], [9930.328636, 9791.898036], 6)
    check(record["cash"][2], 4930.348536, 6)
    check(record["fill_quantity"][1], -491.562133441 - 497.510457670, 8)


@pytest.mark.parametrize(
    ("level", "cash"),
    [(0.5, [4997.5, 4995.0, 9995]), (-0.5, [5002.5, 5005.0, 10005]), (1, [-5, -10, 9990])],
)
def test_funding_worked(level, cash):
    """A closing bar finds the account flat, so the third bar is not paid for."""
    frame = flat_frame(funding=1e-4)
    record = run(frame, [1, 1, 0], leverage=5, action_levels=(0, level))
    check(record["cash"][1:], cash, 9)
    paid = -np.diff([10000 * (1 - abs(level)), *cash[:2]])
    check(record["funding"], [*paid, 0], 9)
    check(record["cost"], record["funding"], 12)


def test_funding_debt_is_carried_until_flat():
    frame = flat_frame(funding=1e-4)
    record = run(frame, [1, 1, 1], leverage=5, action_levels=(0, 1))
    check(record["cash"][1:], [-5, -10, -15], 9)
    check(record["equity"][1:], [9995, 9990, 9985], 9)


@pytest.mark.parametrize(("low", "liquidated"), [(85, False), (84, True), (83, True)])
def test_margin_call_threshold_worked(low, liquidated):
    record = run(flat_frame(bar3={"low": low}), [4, 4], leverage=5, margin_call_threshold=0.2)
    check(record["liquidation_price"][1], 84, 9)
    assert record["exit_kind"][1] == int(liquidated)
    check(record["cash"][2], 2000 if liquidated else 0, 6)
    check(record["reward"][1], -1.609437912 if liquidated else 0, 9)


def test_margin_call_threshold_worked_short():
    record = run(flat_frame(bar3={"high": 116}), [0, 0], leverage=5, margin_call_threshold=0.2)
    check(record["liquidation_price"][1], 116, 9)
    check(record["cash"][2], 2000, 6)


@pytest.mark.parametrize("leverage", [1, 3, 125])
def test_account_state_after_reset(leverage):
    env = env_on(flat_frame(), leverage=leverage)
    observation, _ = env.reset(jax.random.key(0))
    expected = np.array([0, 0, 0, 0, leverage, 1], np.float32)
    np.testing.assert_array_equal(observation["account_state"], expected)
    assert observation["account_state"].dtype == np.float32


@pytest.mark.parametrize(
    ("actions", "held"),
    [
        ([2, 2, 2, 1], [1, 2, 3, 0]),
        ([2, 2, 2, 1, 0, 0], [1, 2, 3, 0, 1, 2]),
        ([2, 2, 0, 0], [1, 2, 1, 2]),
    ],
)
def test_holding_time_worked(actions, held):
    record = run(flat_frame(), actions, leverage=2, action_levels=(-1, 0, 1))
    np.testing.assert_array_equal(record["held_bars"][1:], held)
    np.testing.assert_array_equal(record["account_state"][1:, 3], held)


def test_a_position_opened_at_a_close_never_meets_its_own_bar():
    frame = flat_frame(bar2={"low": 70})
    record = run(frame, [4, 4], start=2, leverage=5)
    assert not record["exit_kind"].any()
    assert run(frame, [4, 4], start=1, leverage=5)["exit_kind"][0] == 1


def test_windows_of_the_golden_series():
    env = env_on(golden_frame(), features="ohlcv", **{**MINUTES, "window_sizes": 3})
    record = trace(env, [0, 0], start=label(1), observations=True)
    windows = record["market_data_1Minute"]
    assert windows.shape == (3, 3, 5)
    # Row 0 is before the data: a zero row. The newest row is the bar that prices the next order.
    np.testing.assert_array_equal(windows[0, :, 3], [0, 100, 100])
    np.testing.assert_array_equal(windows[1, :, 3], [100, 100, 104])
    np.testing.assert_array_equal(windows[:, -1, 3], record["close"])

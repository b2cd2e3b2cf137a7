"""`SequentialTradingEnvSLTP`: the action table, the golden trace G4, locks, modes and messages."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest

from jaxtrade import SequentialTradingEnvSLTP, SequentialTradingEnvSLTPConfig, trace
from jaxtrade.core import exits, trade
from tests.envs.builders import MINUTES, REFERENCE, flat_frame, label

G4 = {
    **MINUTES,
    "leverage": 10,
    "transaction_fee": 0.0004,
    "position_fraction": 0.5,
    "stoploss_levels": (-0.05, -0.15),
    "takeprofit_levels": (0.1,),
    "random_start": False,
}


def played(actions, *, frame=None, **fields):
    frame = flat_frame() if frame is None else frame
    env = SequentialTradingEnvSLTP(frame, SequentialTradingEnvSLTPConfig(**{**G4, **fields}))
    return trace(env, np.asarray(actions), start=label(1), float64=True)


@functools.cache
def table(**fields):
    return SequentialTradingEnvSLTPConfig(**fields).action_table


@pytest.mark.parametrize(
    ("stops", "targets", "leverage", "hold", "count"),
    [
        (2, 2, 1, True, 5),
        (2, 2, 5, True, 9),
        (2, 2, 5, False, 8),
        (2, 3, 5, True, 13),
        (3, 3, 5, True, 19),
    ],
)
def test_action_counts(stops, targets, leverage, hold, count):
    found = table(
        stoploss_levels=(-0.02, -0.05, -0.1)[:stops],
        takeprofit_levels=(0.03, 0.06, 0.1)[:targets],
        leverage=leverage,
        include_hold_action=hold,
    )
    assert len(found) == count


def test_shorts_mirror_longs():
    found = table(leverage=10, stoploss_levels=(-0.05, -0.15), takeprofit_levels=(0.1, 0.3))
    assert found.sides == (0, 1, 1, 1, 1, -1, -1, -1, -1)
    assert found.stops == (0, -0.05, -0.05, -0.15, -0.15, 0.05, 0.05, 0.15, 0.15)
    assert found.targets == (0, 0.1, 0.3, 0.1, 0.3, -0.1, -0.3, -0.1, -0.3)


def test_another_table_has_another_hash():
    assert table(leverage=10).hash == table(leverage=20).hash
    assert table(leverage=10).hash != table(leverage=1).hash
    assert table(leverage=10).hash != table(leverage=10, include_close_action=True).hash
    assert table().hash != table(stoploss_levels=(-0.05, -0.025, -0.1)).hash


G4_CASES = [
    # action, bar 4, exit kind, exit price, cash after, reward of step 3
    (1, {"low": 94}, exits.STOP, 95, 7471.115538, -0.289546751),
    (1, {"open": 93, "low": 92.5}, exits.STOP, 93, 6475.498008, -0.432565557),
    (1, {"high": 112}, exits.TARGET, 110, 14938.247012, 0.403333763),
    (1, {"open": 115}, exits.TARGET, 110, 14938.247012, 0.403333763),
    (1, {"high": 112, "low": 94}, exits.STOP, 95, 7471.115538, -0.289546751),
    (1, {"low": 88}, exits.STOP, 95, 7471.115538, -0.289546751),
    (2, {"low": 84}, exits.LIQUIDATION, 90.4, 5181.195219, -0.655555307),
    (2, {"low": 88, "high": 112}, exits.LIQUIDATION, 90.4, 5181.195219, -0.655555307),
    (1, {"open": 85}, exits.LIQUIDATION, 90.0360144, 5000, -0.691153162),
    (3, {"high": 106}, exits.STOP, 105, 7469.123506, -0.289813417),
    (3, {"low": 89}, exits.TARGET, 90, 14942.231076, 0.403600430),
]


@pytest.mark.parametrize("rules", [{}, {"rules": REFERENCE}], ids=["default", "reference"])
@pytest.mark.parametrize("case", G4_CASES, ids=range(len(G4_CASES)))
def test_golden_trace(case, rules):
    action, bar, kind, price, cash, reward = case
    record = played([action, 0, 0], frame=flat_frame(bar4=bar), **rules)
    assert record["cash"][1] == pytest.approx(5000, abs=1e-9)
    assert abs(record["quantity"][1]) == pytest.approx(498.007968127, abs=1e-9)
    assert record["reward"][0] == pytest.approx(-0.001994019, abs=1e-9)
    assert record["account_state"][1][0] == pytest.approx(4.99002, abs=5e-6)
    assert record["exit_kind"].tolist() == [0, 0, kind]
    assert record["exit_price"][2] == pytest.approx(price, abs=5e-8)
    assert record["cash"][3] == pytest.approx(cash, abs=1e-6)
    assert record["reward"][2] == pytest.approx(reward, abs=1e-9)
    assert record["stop_price"][3] == record["target_price"][3] == 0


@pytest.mark.parametrize(
    ("action", "bar", "default", "reference"),
    [
        (1, {"open": 115, "low": 94}, (110, 14938.247012), (95, 7471.115538)),
        (3, {"open": 85, "high": 106}, (90, 14942.231076), (105, 7469.123506)),
    ],
)
def test_a_bar_that_opens_past_the_target(action, bar, default, reference):
    for rules, (price, cash) in (({}, default), ({"rules": REFERENCE}, reference)):
        record = played([action, 0, 0], frame=flat_frame(bar4=bar), **rules)
        assert record["exit_price"][2] == pytest.approx(price)
        assert record["cash"][3] == pytest.approx(cash, abs=1e-6)


def test_the_opposite_bracket_reverses():
    record = played([1, 3])
    assert record["event"].tolist() == [trade.OPENED, trade.CLOSED | trade.OPENED]
    assert record["quantity"][2] == pytest.approx(-496.023872637, abs=1e-9)
    assert record["fee"][1] == pytest.approx(19.920318725 + 19.840954905, abs=1e-9)
    assert record["cash"][2] == pytest.approx(4980.079681, abs=1e-6)
    assert record["reward"][1] == pytest.approx(-0.003992021, abs=1e-9)
    assert (record["stop_price"][2], record["target_price"][2]) == pytest.approx((105, 90))


def test_the_held_direction_keeps_its_brackets():
    record = played([1, 2, 2])
    assert record["event"].tolist() == [trade.OPENED, 0, 0]
    assert record["stop_price"][1:].tolist() == pytest.approx([95, 95, 95])


def test_close_and_lock():
    closing = played([2, 1], include_close_action=True)
    assert closing["event"].tolist() == [trade.OPENED, trade.CLOSED]
    assert closing["stop_price"][2] == 0
    locked = played([2, 1, 4], include_close_action=True, lock_position_until_sltp=True)
    assert locked["event"].tolist() == [trade.OPENED, 0, 0]
    stopped = played([1, 3, 3], frame=flat_frame(bar4={"low": 94}), lock_position_until_sltp=True)
    assert stopped["exit_kind"].tolist() == [0, 0, exits.STOP]


@pytest.mark.parametrize(
    ("mode", "amount", "quantity", "cash"),
    [
        ("notional", 500, 5, 9899.8),
        ("Notional", 30000, 300, 3988),
        ("QUANTITY", 5, 5, 9899.8),
        ("quantity", 600, 0, 10000),
    ],
)
def test_sizes_are_not_multiplied_by_leverage(mode, amount, quantity, cash):
    record = played([1], leverage=5, trade_mode=mode, quantity_per_trade=amount)
    assert record["quantity"][1] == pytest.approx(quantity)
    assert record["cash"][1] == pytest.approx(cash)
    assert record["event"][0] == (trade.OPENED if quantity else trade.REFUSED)


MESSAGES = [
    (
        {"stoploss_levels": (0.05,)},
        "stoploss_levels: each must lie in (-1, 0), at least one; got (0.05,).",
    ),
    ({"stoploss_levels": ()}, "stoploss_levels: each must lie in (-1, 0), at least one; got ()."),
    (
        {"stoploss_levels": (-1,)},
        "stoploss_levels: each must lie in (-1, 0), at least one; got (-1,).",
    ),
    ({"takeprofit_levels": (0,)}, "takeprofit_levels: each must be > 0, at least one; got (0,)."),
    ({"takeprofit_levels": ()}, "takeprofit_levels: each must be > 0, at least one; got ()."),
    (
        {"takeprofit_levels": (1.0,), "leverage": 2},
        "takeprofit_levels: each must be > 0 and < 1 when shorts are possible, at least one; "
        "got (1.0,).",
    ),
    (
        {"stoploss_levels": (-0.1,), "takeprofit_levels": (0.1,), "include_hold_action": False},
        "actions: only 1 action(s); add levels or include_hold_action.",
    ),
    (
        {"trade_mode": "all"},
        "trade_mode: must be 'fractional', 'notional' or 'quantity'; got 'all'.",
    ),
    ({"position_fraction": 0}, "position_fraction: must be in (0, 1]; got 0."),
    ({"position_fraction": 1.5}, "position_fraction: must be in (0, 1]; got 1.5."),
    (
        {"trade_mode": "quantity", "quantity_per_trade": 0},
        "quantity_per_trade: must be > 0; got 0.",
    ),
]


@pytest.mark.parametrize(("fields", "message"), MESSAGES, ids=range(len(MESSAGES)))
def test_messages(fields, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        SequentialTradingEnvSLTPConfig(**fields)


def test_fields_of_the_other_mode_are_not_checked():
    SequentialTradingEnvSLTPConfig(quantity_per_trade=-1)
    SequentialTradingEnvSLTPConfig(trade_mode="quantity", position_fraction=7)


def test_the_configuration_survives_json():
    config = SequentialTradingEnvSLTPConfig(**G4, rules=REFERENCE)
    assert SequentialTradingEnvSLTPConfig.from_dict(config.to_dict()).to_dict() == config.to_dict()

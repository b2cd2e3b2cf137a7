"""Configuration of the level environment: messages, order of checks, JSON form, no idle field."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import re

import jax
import numpy as np
import pytest

from jaxtrade import (
    Rules,
    SequentialTradingEnv,
    SequentialTradingEnvConfig,
    TimeFrame,
    rewards,
    trace,
)
from jaxtrade.envs.config import check_choice
from tests.envs.builders import walk

Config = SequentialTradingEnvConfig
NAN = float("nan")


def refused(message, **fields):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Config(**fields)


CASH = "initial_cash: must be > 0, or a pair (low, high) with 0 < low <= high; got {}."
LEVERAGE = "leverage: must be a finite number in [1, 125]; got {}. Use 1 for spot."
LEVELS = "action_levels: need at least 2 different finite numbers in [-1, 1]; got {}."
FEATURES = "features: expected 'default', 'ohlcv', a function or one per time frame ({}); got {!r}."
FUTURES = {"leverage": 10}

MESSAGES = [
    ("time_frames: needs at least one time frame.", {"time_frames": ()}),
    (
        "time_frames: 1Hour is given twice (as '1hour' and '60 min').",
        {"time_frames": ("1hour", "5min", "60 min")},
    ),
    (
        "time frame 'soon': expected a number and a unit such as '5min', '1hour' "
        'or (5, "Minute").',
        {"time_frames": "soon"},
    ),
    (
        "time frame '5weeks': unknown unit 'weeks'; use minute, hour or day.",
        {"execute_on": "5weeks"},
    ),
    (
        "time frame '1M': ambiguous (month is not supported); write '1min'.",
        {"time_frames": ("1min", "1M")},
    ),
    *[
        (f"window_sizes: must be whole numbers >= 1; got {value}.", {"window_sizes": value})
        for value in (0, -3, 2.5, True, None, [4, 0])
    ],
    (
        "window_sizes: 3 sizes for 2 time frames; give one size or 2.",
        {"time_frames": ("1min", "5min"), "window_sizes": (1, 2, 3)},
    ),
    *[
        (FEATURES.format(1, value), {"features": value})
        for value in ("ohlc", 7, None, (None, None))
    ],
    *[
        (CASH.format(value), {"initial_cash": value})
        for value in (0, -1, NAN, math.inf, "10", None, True, (1, 2, 3), (2, 1), (0, 1), (1, NAN))
    ],
    *[
        (f"{field}: must be in [0, 1); got {value}.", {field: value})
        for field in ("transaction_fee", "half_spread", "slippage", "bankrupt_threshold")
        for value in (-0.1, 1, NAN, math.inf, "0", None, True)
    ],
    ("half_spread + slippage: must be < 1; got 1.1.", {"half_spread": 0.5, "slippage": 0.6}),
    *[
        (LEVERAGE.format(value), {"leverage": value})
        for value in (0.5, 125.1, 0, -1, NAN, math.inf, "5", None, True)
    ],
    (
        "maintenance_margin_rate: must be in [0, 0.1) at leverage 10; got 0.1.",
        {**FUTURES, "maintenance_margin_rate": 0.1},
    ),
    (
        "maintenance_margin_rate: must be in [0, 1) at leverage 1; got -0.001.",
        {"maintenance_margin_rate": -0.001},
    ),
    (
        "maintenance_margin_rate: must be in [0, 0.333333) at leverage 3; got nan.",
        {"leverage": 3, "maintenance_margin_rate": NAN},
    ),
    *[
        (
            f"margin_call_threshold: must be None or in [0, 1); got {value}.",
            {"margin_call_threshold": value},
        )
        for value in (1, -0.1, NAN, "x", True)
    ],
    ("action: must be one of ('discrete', 'continuous'); got 'box'.", {"action": "box"}),
    *[
        (LEVELS.format(value), {"leverage": 2, "action_levels": value})
        for value in ((1,), (), (0, 0), (0, 1.1), (-1.5, 0), (0, NAN), (0, math.inf), 3, "01")
    ],
    *[
        (f"max_steps: must be None or a whole number >= 1; got {value}.", {"max_steps": value})
        for value in (0, -1, 2.5, True, "5")
    ],
    *[
        (f"ruin_reward: must be a finite number; got {value}.", {"ruin_reward": value})
        for value in (NAN, math.inf, None, "x", True)
    ],
    (
        "observation: must be one of ('dict', 'flat', 'index'); got 'image'.",
        {"observation": "image"},
    ),
    ("rules: must be a Rules object; got 'reference'.", {"rules": "reference"}),
    (
        "reward: unknown 'log_retrun'; did you mean 'log_return'? Known: "
        f"{', '.join(rewards.NAMES)}.",
        {"reward": "log_retrun"},
    ),
    *[
        (
            f"reward: expected a name, a dict of weights or a pair (init, update); got {value!r}.",
            {"reward": value},
        )
        for value in (5, None, (1, 2), [len])
    ],
]


@pytest.mark.filterwarnings("ignore:time frame '60 min' is written")
@pytest.mark.parametrize(("message", "fields"), MESSAGES, ids=lambda v: repr(v)[:60])
def test_every_refusal_has_its_message(message, fields):
    refused(message, **fields)


@pytest.mark.parametrize(
    ("field", "choices"),
    [
        ("fill_at", ("close", "next_open")),
        ("slippage_side", ("adverse", "symmetric")),
        ("nan_prices", ("error", "repair")),
        ("partial_bars", ("drop", "keep")),
    ],
)
def test_rules_choices(field, choices):
    message = f"rules.{field}: must be one of {choices}; got 'x'."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Rules(**{field: "x"})
    for choice in choices:
        assert getattr(Rules(**{field: choice}), field) == choice


def test_choice_of_a_field():
    check_choice("mode", "a", ("a", "b"))
    with pytest.raises(ValueError, match=r"^mode: must be one of \('a', 'b'\); got 3\.$"):
        check_choice("mode", 3, ("a", "b"))


@pytest.mark.parametrize(
    ("leverage", "rate", "fee", "long", "short"),
    [
        (2, 0.004, 0.004, True, False),
        (2, 0.004, 0.0039, True, False),
        (2, 0.4, 0.4, True, False),
        (10, 0.004, 0.004 / 1.096, True, True),
        (10, 0.004, 0.004 / 1.096 * 1.001, True, False),
        (125, 0.004, 0.01, False, False),
    ],
)
def test_fee_against_maintenance(leverage, rate, fee, long, short):
    """Only the directions that can be traded count (2.5)."""
    fields = {
        "leverage": leverage,
        "maintenance_margin_rate": rate,
        "transaction_fee": fee,
    }
    for levels, sides in (((0, 1), (long,)), ((-1, 0), (short,)), ((-1, 1), (long, short))):
        if all(sides):
            Config(**fields, action_levels=levels)
            continue
        side = "short" if levels == (-1, 0) or long else "long"
        share = 1 - 1 / leverage + rate if side == "long" else 1 + 1 / leverage - rate
        refused(
            f"transaction_fee: {fee:g} does not fit inside the margin left at liquidation of a "
            f"{side} position (leverage {leverage:g}, rate {rate:g}); the limit is "
            f"{rate / share:.6g}.",
            **fields,
            action_levels=levels,
        )
    if not (long and short):
        with pytest.raises(ValueError, match="does not fit"):
            Config(**fields, action="continuous", action_levels=(0, 1))


def test_the_limit_of_the_fee_is_itself_allowed():
    Config(leverage=10, transaction_fee=0.004 / 1.096)
    Config(leverage=5, margin_call_threshold=0.2, transaction_fee=0.04 / 1.16)
    with pytest.raises(ValueError, match=r"rate 0\.04"):
        Config(leverage=5, margin_call_threshold=0.2, transaction_fee=0.04 / 1.16 * 1.001)


def test_the_fee_is_free_in_spot():
    assert Config(transaction_fee=0.9).transaction_fee == 0.9


# One wrong value per field, in the order of the table.
WRONG = {
    "time_frames": "soon",
    "window_sizes": 0,
    "execute_on": "5weeks",
    "features": "ohlc",
    "initial_cash": 0,
    "transaction_fee": 1,
    "half_spread": 1,
    "slippage": 1,
    "leverage": 0,
    "maintenance_margin_rate": -1,
    "margin_call_threshold": 1,
    "bankrupt_threshold": 1,
    "action": "box",
    "action_levels": (1,),
    "max_steps": 0,
    "reward": "none",
    "ruin_reward": NAN,
    "observation": "image",
    "rules": None,
}


def test_errors_come_in_the_order_of_the_fields():
    names = list(WRONG)
    for k, name in enumerate(names):
        with pytest.raises(ValueError) as caught:
            Config(**{other: WRONG[other] for other in names[k:]})
        head = "time frame" if name in ("time_frames", "execute_on") else f"{name}:"
        assert str(caught.value).startswith(head), (name, str(caught.value))


def test_unknown_names_are_type_errors():
    with pytest.raises(TypeError, match="transaction_fees"):
        Config(transaction_fees=0.1)


def test_warns_of_negative_levels_in_spot():
    with pytest.warns(
        UserWarning, match="^action_levels: negative levels mean flat at leverage 1.$"
    ):
        Config(action_levels=(-1, 0, 1))
    Config(action_levels=(-1, 0, 1), leverage=2)


def test_warns_of_renamed_frames():
    with pytest.warns(UserWarning, match="^time frame '60min' is written '1Hour'; its observation"):
        Config(time_frames="60min")


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("1min", ["1Minute"]),
        (("1min", "1h"), ["1Minute", "1Hour"]),
        ((5, "Minute"), ["5Minute"]),
        ([(5, "Minute"), TimeFrame.parse("1day")], ["5Minute", "1Day"]),
    ],
)
def test_spellings_of_time_frames(given, names):
    assert [frame.name for frame in Config(time_frames=given).frames] == names


def test_normal_forms():
    config = Config(time_frames=("1min", "1h"), window_sizes=4, initial_cash=(1, 2), leverage=1.5)
    assert config.windows == (4, 4)
    assert config.cash_range == (1.0, 2.0)
    assert not config.spot
    assert config.levels == (-1.0, -0.5, 0.0, 0.5, 1.0)
    assert Config().levels == (0.0, 0.5, 1.0)
    assert Config(action_levels=(1, 0)).levels == (1.0, 0.0)
    assert Config(initial_cash=5).cash_range == (5.0, 5.0)


def test_nothing_is_mutated():
    given = {
        "time_frames": ["1min", "5min"],
        "window_sizes": [2, 3],
        "initial_cash": [1.0, 2.0],
        "action_levels": [0.0, 1.0],
        "reward": {"log_return": 1.0, "drawdown": 0.5},
        "execute_on": "1min",
    }
    before = copy.deepcopy(given)
    config = Config(**given)
    SequentialTradingEnv(walk(60), config).reset(jax.random.key(0))
    assert given == before
    assert config.time_frames == before["time_frames"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.leverage = 2


def test_round_trip_through_json():
    config = Config(
        symbol="X",
        time_frames=("1min", "5min"),
        window_sizes=(3, 2),
        execute_on="5min",
        features="ohlcv",
        initial_cash=(100.0, 200.0),
        transaction_fee=1e-4,
        half_spread=2e-4,
        slippage=3e-4,
        leverage=7.5,
        maintenance_margin_rate=0.01,
        margin_call_threshold=0.3,
        bankrupt_threshold=0.2,
        action="discrete",
        action_levels=(-1.0, 0.25, 1.0),
        max_steps=9,
        random_start=False,
        reward={"log_return": 1.0, "drawdown": 0.1},
        ruin_reward=-3.0,
        observation="flat",
        rules=Rules(fill_at="next_open", retry_refused=False),
    )
    default = Config()
    for field in dataclasses.fields(Config):
        if field.name != "action":
            assert getattr(config, field.name) != getattr(default, field.name), field.name
    text = json.dumps(config.to_dict())
    assert Config.from_dict(json.loads(text)) == config
    assert Config.from_dict(json.loads(json.dumps(default.to_dict()))) == default
    assert Config.from_dict({}) == default
    assert Config.from_dict({"leverage": 2}) == Config(leverage=2)


def test_time_frame_objects_and_numpy_values_have_a_json_form():
    config = Config(
        time_frames=(TimeFrame.parse("5min"),),
        leverage=np.float64(2.0),
        action_levels=np.array([0.0, 1.0]),
        window_sizes=np.array([3]),
    )
    read = Config.from_dict(json.loads(json.dumps(config.to_dict())))
    assert (read.frames, read.levels, read.windows) == (config.frames, config.levels, (3,))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"leverge": 2},
            "SequentialTradingEnvConfig: unknown field 'leverge'; did you mean 'leverage'? ",
        ),
        (
            {"zzz": 2},
            "SequentialTradingEnvConfig: unknown field 'zzz'; Known: symbol, time_frames, ",
        ),
        (
            {"rules": {"fil_at": "x"}},
            "rules: unknown field 'fil_at'; did you mean 'fill_at'? Known: ",
        ),
        (
            {"rules": {"fill_at": "x"}},
            "rules.fill_at: must be one of ('close', 'next_open'); got 'x'.",
        ),
        ({"leverage": 0}, "leverage: must be a finite number in [1, 125]; got 0."),
    ],
)
def test_from_dict_refuses(values, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Config.from_dict(values)


def close_only(bars):
    """A user's feature function."""
    return bars[["close"]].rename(columns={"close": "feature_close"})


def init(params):
    return ()


def update(carry, x, params):
    return x.equity_after - x.equity_before, carry


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("features", close_only, "{'function': 'tests.envs.test_config:close_only'}"),
        ("features", (close_only,), "({'function': 'tests.envs.test_config:close_only'},)"),
        ("reward", (init, update), "'tests.envs.test_config:init'"),
    ],
)
def test_functions_are_named_and_must_be_supplied(field, value, shown):
    form = json.loads(json.dumps(Config(**{field: value}).to_dict()))
    with pytest.raises(ValueError) as caught:
        Config.from_dict(form)
    assert str(caught.value).startswith(f"{field}: this configuration uses a Python function (")
    assert shown in str(caught.value)
    assert str(caught.value).endswith(f"pass it as {field}=... .")
    assert getattr(Config.from_dict(form, **{field: value}), field) == value


def test_supplied_functions_must_be_fields():
    with pytest.raises(ValueError, match="unknown field 'feature'; did you mean 'features'"):
        Config.from_dict({}, feature=close_only)


# Every field changes something that can be seen: the record of an episode, the space or the spec.

BASE = {
    "time_frames": "1min",
    "window_sizes": 3,
    "execute_on": "1min",
    "leverage": 5,
    "transaction_fee": 1e-3,
    "maintenance_margin_rate": 0.01,
    "rules": Rules(nan_prices="repair"),
}
FIELDS = {
    "time_frames": "5min",
    "window_sizes": 4,
    "execute_on": "5min",
    "features": "ohlcv",
    "initial_cash": 5000.0,
    "transaction_fee": 2e-3,
    "half_spread": 1e-3,
    "slippage": 1e-3,
    "leverage": 4,
    "maintenance_margin_rate": 0.1,
    "margin_call_threshold": 0.9,
    "bankrupt_threshold": 0.95,
    "action": "continuous",
    "action_levels": (-1, -0.4, 0, 0.4, 1),
    "max_steps": 7,
    "random_start": False,
    "reward": "pnl",
    "ruin_reward": -3.0,
    "observation": "flat",
}
# Rule -> its other value, the rules it is seen beside, further fields.
WHOLE = {"partial_increase": False}
RULES = {
    "fill_at": ("next_open", {}, {}),
    "slippage_side": ("symmetric", {}, {}),
    "exit_slippage": (False, {}, {"maintenance_margin_rate": 0.15}),
    "partial_increase": (False, {}, {}),
    "retry_refused": (False, WHOLE, {}),
    "partial_bars": ("keep", {}, {"execute_on": "5min"}),
}
ACTIONS = np.random.default_rng(0).integers(0, 5, 30).repeat(2)


def seen(**fields):
    """Everything that an environment shows of one episode, as one text."""
    frame = walk(150, 11, sigma=2e-2, gap=1e-2)
    frame = frame.iloc[7:]  # the first five-minute bar is not covered
    config = Config(**{**BASE, **fields})
    env = SequentialTradingEnv(frame, config)
    with jax.enable_x64(True):
        state = env.reset(jax.random.key(2))[1]
        params = env.default_params
    actions = ACTIONS if not env.continuous else np.asarray(Config(leverage=5).levels)[ACTIONS]
    record = trace(env, actions, start=None, float64=True, key=jax.random.key(5))
    space = env.observation_space()
    shown = {**record, "bars": env.market.open_minute, "start": state.bar}
    arrays = {name: np.asarray(value).tobytes() for name, value in shown.items()}
    extra = (
        str(env.market.spec),
        type(space).__name__,
        str(env.action_space()),
        params.ruin_reward,
    )
    return hash((tuple(sorted(arrays.items())), *map(str, extra)))


def test_every_field_is_covered_here():
    names = {field.name for field in dataclasses.fields(Config)}
    assert names == {*FIELDS, "rules", "symbol"}  # the symbol labels figures
    rules = {field.name for field in dataclasses.fields(Rules)}
    # What needs brackets or NaN prices is shown where those are tested.
    assert rules == {*RULES, "nan_prices", "target_first_on_gap"}


@pytest.fixture(scope="module")
def plain():
    return seen()


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_changes_something(field, plain):
    assert seen(**{field: FIELDS[field]}) != plain


@pytest.mark.parametrize("field", RULES)
def test_every_rule_changes_something(field):
    value, beside, fields = RULES[field]
    fields = {"slippage": 1e-2, "bankrupt_threshold": 0, **fields}
    one = seen(**fields, rules=Rules(nan_prices="repair", **beside))
    two = seen(**fields, rules=Rules(nan_prices="repair", **beside, **{field: value}))
    assert one != two


def test_nan_prices_rule():
    frame = walk(60)
    frame.loc[5, "close"] = NAN
    fields = {"time_frames": "1min", "window_sizes": 1, "execute_on": "1min"}
    with pytest.raises(ValueError, match=r"^close: 1 of 60 values are NaN"):
        SequentialTradingEnv(frame, Config(**fields))
    with pytest.warns(UserWarning, match="^data gaps: 1 of 60 execution bars"):
        SequentialTradingEnv(frame, Config(**fields, rules=Rules(nan_prices="repair")))

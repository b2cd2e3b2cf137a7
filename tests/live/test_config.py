"""Configuration: every rule, the nearest name, one message for everything, and who wins."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
import tomllib
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxtrade.core.brackets import CLOSE, HOLD
from jaxtrade.core.rules import Rules
from live import config as configs
from live.config import (
    BybitFuturesSLTPTradingEnvConfig,
    BybitFuturesTradingEnvConfig,
    ConfigError,
    LiveConfig,
    NotifyConfig,
    PolicyConfig,
    RunnerConfig,
    ServerConfig,
    VenueConfig,
    check_modes,
    confirmation,
    load,
    load_tables,
    template,
)
from live.planner.kelly import KellySizing
from live.types import MarginMode, PositionMode

pytestmark = pytest.mark.filterwarnings("ignore:action_levels")

LEVELS = BybitFuturesTradingEnvConfig
BRACKETS = BybitFuturesSLTPTradingEnvConfig


def write(folder: Path, text: str) -> Path:
    path = folder / "bot.toml"
    path.write_text(text, encoding="utf-8")
    return path


# Environments -----------------------------------------------------------------------------------


def test_defaults_are_those_of_the_contract():
    levels, brackets = LEVELS(), BRACKETS()
    assert (levels.symbol, levels.time_frames, levels.window_sizes) == (
        "BTCUSDT",
        ("1Hour",),
        (10,),
    )
    assert (levels.execute_on, levels.leverage, levels.demo) == ("1Hour", 1, True)
    assert levels.action_levels == (-1, 0, 1)
    assert levels.disaster_stop_fraction == "auto"
    assert (levels.margin_mode, levels.position_mode) == (MarginMode.ISOLATED, PositionMode.ONE_WAY)
    assert (levels.equity_buffer, levels.rebalance_tolerance, levels.min_trade_quote) == (
        0,
        0.02,
        1,
    )
    assert (levels.foreign_position, levels.observation_failure_policy) == ("refuse", "halt")
    assert levels.rules == Rules()
    assert (brackets.trade_mode, brackets.quantity_per_trade) == ("quantity", 0.001)
    assert brackets.stoploss_levels == (-0.025, -0.05, -0.1)
    assert not brackets.shorts


@pytest.mark.parametrize("cls", [LEVELS, BRACKETS])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"leverage": 0.5}, r"leverage: must be a finite number in \[1, 125\], was 0\.5"),
        ({"leverage": 101}, "leverage: bybit allows at most 100, was 101"),
        ({"leverage": float("nan")}, "leverage: must be a finite number"),
        ({"leverage": True}, "leverage: must be a finite number"),
        ({"time_frames": "7min"}, r"time_frames: bybit offers .*; was 7Minute"),
        ({"time_frames": ("5min", "5Minute")}, "time_frames: 5Minute is given twice"),
        ({"time_frames": "1M"}, "ambiguous"),
        ({"time_frames": ()}, "time_frames: needs at least one"),
        ({"execute_on": "2days"}, "execute_on: must be at most one day, was 2Day"),
        ({"execute_on": "5 bananas"}, "execute_on: time frame '5 bananas': unknown unit"),
        ({"window_sizes": 0}, "window_sizes: must be whole numbers >= 1"),
        ({"window_sizes": (5, 5)}, "window_sizes: 2 sizes for 1 time frames"),
        ({"margin_mode": "isolted"}, "margin_mode: must be one of isolated, cross.*'isolated'"),
        ({"margin_mode": MarginMode.UNKNOWN}, "margin_mode: must be one of isolated, cross"),
        ({"position_mode": "both"}, "position_mode: must be one of one_way, hedge"),
        ({"demo": 1}, "demo: must be true or false, was 1"),
        (
            {"transaction_fee": 1.0},
            r"transaction_fee: must be a finite number in \[0, 1\), or none",
        ),
        ({"maintenance_margin_rate": float("inf")}, "maintenance_margin_rate: must be a finite"),
        (
            {"maintenance_margin_rate": 0.3, "leverage": 5},
            r"maintenance_margin_rate: must be in \[0, 0\.2\) at leverage 5, was 0\.3",
        ),
        ({"equity_buffer": 1}, "equity_buffer"),
        ({"rebalance_tolerance": -0.1}, "rebalance_tolerance"),
        ({"min_trade_quote": -1}, "min_trade_quote"),
        ({"bankrupt_threshold": 1}, "bankrupt_threshold"),
        ({"foreign_position": "addopt"}, "did you mean 'adopt'"),
        ({"observation_failure_policy": "ignore"}, "one of halt, flatten, hold"),
        ({"unreadable_grace_bars": 0}, "unreadable_grace_bars: must be a whole number >= 1"),
        ({"allocation": 0}, "allocation: must be a fraction of the equity .* or none, was 0"),
        ({"allocation": float("inf")}, "allocation: must be a fraction"),
        ({"seed": -1}, "seed"),
        ({"symbol": "btc usdt"}, "symbol: must be a symbol such as"),
        ({"rules": {"fil_at": "close"}}, "rules: unknown field 'fil_at'; did you mean 'fill_at'"),
        ({"rules": "default"}, "rules: must be a table of switches, was 'default'"),
    ],
)
def test_every_shared_rule_refuses_with_its_own_message(cls, values, message):
    with pytest.raises(ConfigError, match=message):
        cls(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"action_levels": (1,)}, "action_levels: must be at least 2"),
        ({"action_levels": (0, 0.0)}, "action_levels: must be at least 2 different"),
        ({"action_levels": (-1.5, 0)}, r"in \[-1, 1\], was \(-1\.5, 0\.0\)"),
        (
            {"action_levels": (0, float("nan"))},
            "action_levels: must be at least 2 different finite",
        ),
        ({"disaster_stop_fraction": 0}, r"'auto' or a number in \(0, 1\)"),
        ({"quantity_per_trade": 1}, "quantity_per_trade: .*would ignore it"),
        ({"kelly": {}}, "kelly: .*would ignore it"),
        ({"trade_mode": "quantity"}, "trade_mode: .*would ignore it"),
        ({"position_fraction": 0.5}, "position_fraction: .*would ignore it"),
        ({"leverge": 2}, "leverge: unknown field of BybitFuturesTradingEnvConfig; .*'leverage'"),
        ({"stoploss_levels": (-0.1,)}, "stoploss_levels: unknown field"),
        ({"api_key": "AKIA"}, "api_key: .*never from a configuration"),
    ],
)
def test_levels_refuse(values, message):
    with pytest.raises(ConfigError, match=message):
        LEVELS(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stoploss_levels": (0.1,)}, r"stoploss_levels: must be numbers in \(-1, 0\)"),
        ({"stoploss_levels": ()}, "stoploss_levels"),
        ({"takeprofit_levels": (-0.1,)}, "takeprofit_levels: must be finite numbers > 0"),
        ({"takeprofit_levels": (float("inf"),)}, "takeprofit_levels"),
        ({"takeprofit_levels": (1.5,), "leverage": 2}, "takeprofit_levels: each must be < 1"),
        ({"include_short_positions": True}, "include_short_positions: shorts need leverage"),
        (
            {
                "stoploss_levels": (-0.1,),
                "takeprofit_levels": (0.1,),
                "include_hold_action": False,
            },
            "actions: only 1",
        ),
        ({"trade_mode": "quantum"}, "trade_mode: must be one of .*did you mean 'quantity'"),
        ({"position_fraction": 1.1}, r"position_fraction: must be a finite number in \(0, 1\]"),
        ({"quantity_per_trade": 0}, "quantity_per_trade: must be a finite number > 0"),
        ({"kelly": {}}, "kelly: needs trade_mode 'fractional', was 'quantity'"),
        (
            {"kelly": {}, "trade_mode": "fractional", "position_fraction": 0.5},
            "position_fraction: kelly would take its place, was 0.5",
        ),
        ({"kelly": {"cup": 1}}, "kelly: unknown field 'cup'; did you mean 'cap'"),
        ({"kelly": {"cap": 1.5}}, r"kelly: cap: must be a finite number in \(0, 1\], was 1.5"),
        ({"kelly": True}, "kelly: must be a table such as"),
        ({"action_levels": (0, 1)}, "action_levels: .*stoploss_levels and takeprofit_levels"),
    ],
)
def test_brackets_refuse(values, message):
    with pytest.raises(ConfigError, match=message):
        BRACKETS(**values)


def test_all_problems_come_in_one_message():
    with pytest.raises(ConfigError) as caught:
        LEVELS(leverage=0, demo="yes", seed=1.5, time_frames="x")
    assert len(caught.value.problems) == 4
    with pytest.raises(ConfigError) as caught:
        LEVELS.build({"leverag": 1, "demo": "yes"})
    assert len(caught.value.problems) == 2


def test_the_action_table_is_the_offline_one():
    table = BRACKETS(
        stoploss_levels=[-0.02, -0.05], takeprofit_levels=[0.03, 0.06, 0.1], leverage=5
    ).action_table
    assert len(table) == 13
    assert table.sides[0] == HOLD
    assert table.stops[7] == 0.02  # the first short negates both numbers
    assert len(BRACKETS(leverage=2).action_table) == 19
    assert len(BRACKETS(leverage=2, include_short_positions=False).action_table) == 10
    assert BRACKETS(include_close_action=True).action_map[1][0] == CLOSE


def test_warnings_name_what_is_legal_but_surprising():
    with pytest.warns(UserWarning, match="negative levels mean flat at leverage 1"):
        LEVELS()
    with pytest.warns(UserWarning, match=r"-0\.1 lie at or beyond the liquidation distance 0\.096"):
        BRACKETS(leverage=10)
    with pytest.warns(UserWarning, match="'60min' is written '1Hour'"):
        BRACKETS(time_frames="60min")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LEVELS(leverage=2)
        LEVELS(action_levels=(0, 1))
        BRACKETS(leverage=5)


@pytest.mark.parametrize("spelling", ["5m", "5min", "5 Min", "5Minute", "5minutes", (5, "Minute")])
def test_every_spelling_of_a_frame_is_one_frame(spelling):
    config = BRACKETS(time_frames=spelling, execute_on=spelling)
    assert config.time_frames == ("5Minute",)
    assert config.market_data_keys == ("market_data_5Minute",)
    assert config.execution_frame.seconds == 300


def test_configurations_are_frozen_values():
    config = BRACKETS(leverage=5, rules={"fill_at": "next_open"})
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.leverage = 1
    assert not hasattr(config, "__dict__")
    assert config.rules == Rules(fill_at="next_open")
    assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == config
    assert dataclasses.replace(config, leverage=3).leverage == 3
    assert hash(config) == hash(dataclasses.replace(config))


@settings(max_examples=60)
@given(
    name=st.sampled_from(sorted(BRACKETS.table_fields())),
    value=st.one_of(
        st.floats(), st.integers(-3, 200), st.text(max_size=5), st.none(), st.lists(st.floats())
    ),
)
def test_whatever_is_given_either_fits_or_is_refused_by_name(name, value):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        problems, read = "", 0.0
        try:
            read = getattr(BRACKETS.build({name: value}), name)
        except ConfigError as error:
            problems = str(error)
    assert not problems or name in problems or problems.startswith("actions")
    assert not (isinstance(read, float) and math.isnan(read))


# Tables -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (RunnerConfig, {"strategy_id": "Has Blank"}, "strategy_id: must be lower case text"),
        (RunnerConfig, {"mode": "real"}, "mode: must be one of paper, demo, live"),
        (RunnerConfig, {"submit_timeout_seconds": 0}, "submit_timeout_seconds"),
        (VenueConfig, {"name": "bybt"}, "did you mean 'bybit'"),
        (VenueConfig, {"base_url": "https://api.example.com"}, "only the address of a local"),
        (ServerConfig, {"host": "0.0.0.0"}, "without a certificate only this machine"),
        (ServerConfig, {"certificate": "a.pem"}, "needs certificate_key"),
        (ServerConfig, {"port": 70000}, "port"),
        (PolicyConfig, {"bundle": "b", "factory": "a:b"}, "bundle and factory: give one"),
        (PolicyConfig, {"factory": "not a name"}, "factory: must be module:function"),
        (PolicyConfig, {"fallback_action": "flat"}, "fallback_action: must be one of hold"),
        (configs.ClockConfig, {"warn_ms": 2000}, "warn_ms: must not exceed halt_ms"),
        (configs.RateConfig, {"share_fraction": 0}, "share_fraction"),
        (configs.ReconcileConfig, {"absence_min_answers": 1}, "absence_min_answers"),
    ],
)
def test_tables_refuse(cls, values, message):
    with pytest.raises(ConfigError, match=message):
        cls(**values)


def test_addresses_for_notifications_are_https_and_never_shown():
    with pytest.raises(ConfigError) as caught:
        NotifyConfig(webhook_url="ftp://example.com/KEY-IN-IT")
    assert "KEY-IN-IT" not in str(caught.value)
    with pytest.raises(ConfigError, match="https"):
        NotifyConfig(webhook_url="http://example.com/x")
    config = NotifyConfig(webhook_url="https://example.com/KEY-IN-IT")
    assert "KEY-IN-IT" not in repr(config)
    shown = LiveConfig(notify=config).to_dict()
    assert shown["notify"]["webhook_url"] == "***"


@pytest.mark.parametrize(
    ("frame", "deadline", "policy", "intent"),
    [("1min", 15, 15, 5), ("5min", 30, 20, 5), ("1day", 30, 20, 5)],
)
def test_times_follow_the_length_of_a_bar(frame, deadline, policy, intent):
    config = LiveConfig(env=BRACKETS(execute_on=frame))
    assert config.bar_deadline_seconds == deadline
    assert config.policy_timeout_seconds == policy
    assert config.intent_ttl_seconds == intent
    fixed = LiveConfig(runner=RunnerConfig(bar_deadline=2, policy_timeout_seconds=3))
    assert (fixed.bar_deadline_seconds, fixed.policy_timeout_seconds) == (2, 3)


def test_a_time_longer_than_a_bar_is_refused():
    with pytest.raises(ConfigError, match=r"\[runner\] bar_deadline: must be shorter than a bar"):
        LiveConfig(env=BRACKETS(execute_on="1min"), runner=RunnerConfig(bar_deadline=60))


# Files, variables, command line -----------------------------------------------------------------

TEXT = """
[runner]
mode = "demo"
strategy_id = "first"

[env]
name = "BybitFuturesSLTPTradingEnv"
leverage = 5
time_frames = ["1min", [5, "Minute"]]
window_sizes = [12, 8]
execute_on = "5min"

[env.rules]
fill_at = "next_open"
"""


def test_the_later_source_wins(tmp_path):
    path = write(tmp_path, TEXT)
    environ = {
        "JAXTRADE__RUNNER__STRATEGY_ID": "second",
        "JAXTRADE__ENV__LEVERAGE": "3",
        "JAXTRADE__ENV__STOPLOSS_LEVELS": "[-0.02, -0.05]",
        "JAXTRADE__ENV__RULES__PARTIAL_BARS": "keep",
        "JAXTRADE__RUNNER__MAX_STEPS": "none",
        "JAXTRADE_CONFIRM_LIVE": "not a field",
        "HOME": "/nowhere",
    }
    config = load(path, {"env.leverage": "2", "runner.allow_local": True}, environ)
    assert isinstance(config.env, BRACKETS)
    assert (config.runner.mode, config.runner.strategy_id) == ("demo", "second")
    assert (config.env.leverage, config.runner.allow_local) == (2, True)
    assert config.env.stoploss_levels == (-0.02, -0.05)
    assert config.env.time_frames == ("1Minute", "5Minute")
    assert config.env.rules == Rules(fill_at="next_open", partial_bars="keep")
    origins = configs.merge(path, {"env.leverage": "2"}, environ).origins
    assert origins["env", "leverage"] == "option env.leverage"
    assert origins["runner", "strategy_id"] == "JAXTRADE__RUNNER__STRATEGY_ID"
    assert origins["runner", "mode"] == str(path)


def test_a_variable_may_name_the_environment(tmp_path):
    environ = {
        "JAXTRADE__ENV__NAME": "BybitFuturesSLTPTradingEnv",
        "JAXTRADE__ENV__INCLUDE_CLOSE_ACTION": "true",
    }
    assert load(None, {}, environ).env.include_close_action


def test_text_fields_are_not_parsed():
    assert load(None, {"runner.strategy_id": "12"}, {}).runner.strategy_id == "12"
    assert load(None, {"notify.telegram_chat_id": "-100"}, {}).notify.telegram_chat_id == "-100"


def test_everything_wrong_anywhere_is_named_once(tmp_path):
    path = write(
        tmp_path,
        "[runer]\n[runner]\nmod = 'x'\n[env]\nname = 'BybitFuturesTradingEnv'\nleverage = 0\n"
        "[risk]\ndaily_loss_limit = 3\n",
    )
    with pytest.raises(ConfigError) as caught:
        load(path, {"servr.port": "1"}, {"JAXTRADE__ENV__SEEED": "1"})
    text = str(caught.value)
    for part in (
        str(path),
        "[runer]; did you mean 'runner'",
        "[runner] mod: unknown field of RunnerConfig; did you mean 'mode'",
        "[env] leverage",
        "[env] seeed",
        "[risk] daily_loss_limit",
        "option servr.port: unknown table [servr]; did you mean 'server'",
    ):
        assert part in text, text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mode = 'x'", r"mode: expected a table \[mode\]"),
        ("[env]\nname = 'BybitFuturesTradngEnv'", "did you mean 'BybitFuturesTradingEnv'"),
        ("[env", "cannot be read as TOML"),
        ("[venue]\napi_key = 'AKIAMARKER'", "keys are read from the environment"),
    ],
)
def test_files_are_refused_with_a_reason(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load(write(tmp_path, text), {}, {})
    assert "AKIAMARKER" not in str(caught.value)


def test_a_missing_file_points_to_init(tmp_path):
    with pytest.raises(FileNotFoundError, match="jaxtrade live init"):
        load(tmp_path / "none.toml", {}, {})


def test_a_daemon_is_found_although_its_environment_is_broken(tmp_path):
    path = write(tmp_path, "[env]\nleverage = 0\n[runner]\nstate_dir = '/tmp/x'\n[nonsense]\n")
    tables = load_tables(path, ("runner", "server"), {}, {})
    assert tables["runner"].folder == Path("/tmp/x")


def test_what_is_shown_can_be_read_again(tmp_path):
    given = {"server.port": "0", "policy.bundle": str(tmp_path / "runs" / "b")}
    first = load(write(tmp_path, TEXT), given, {})
    text = template.merged(first, {})
    again = load(write(tmp_path, text), {}, {})
    assert again == first
    assert again.digest == first.digest
    assert dataclasses.replace(first, runner=RunnerConfig()).digest != first.digest


@pytest.mark.parametrize("environment", sorted(configs.ENVIRONMENTS))
def test_the_written_file_is_the_defaults_with_every_field(tmp_path, environment):
    text = template.initial(environment, "bot.toml")
    config = load(write(tmp_path, text), {}, {})
    assert config.environment == environment
    assert (config.env.equity_buffer, config.server.enabled) == (0.02, True)
    plain = dataclasses.replace(
        config,
        env=dataclasses.replace(config.env, equity_buffer=0.0),
        server=ServerConfig(),
    )
    assert plain == LiveConfig(env=configs.ENVIRONMENTS[environment]())
    uncommented = text.replace("# [env.rules]", "[env.rules]")
    for section, fields in template.reference(environment).items():
        assert f"[{section}]" in text
        for name in fields:
            assert f"{name} = " in text or f"[env.{name}]" in uncommented
    # Every default that is shown is one that is accepted.
    lines = [line.removeprefix("# ") for line in text.splitlines() if " = " in line or "[" in line]
    lines = [line for line in lines if not line.startswith(("#", "Each", "Lines", "are"))]
    tomllib.loads("\n".join(lines))


# Several symbols --------------------------------------------------------------------------------


SEVERAL = ("BTCUSDT", "ETH/USDT", "SOL/USDT:USDT")


def of(symbols=(), **fields):
    return LiveConfig(runner=RunnerConfig(symbols=symbols), env=LEVELS(**fields))


def test_one_symbol_is_that_of_the_environment_and_may_use_everything():
    config = of(symbol="ETHUSDT")
    assert config.symbols == ("ETHUSDT",)
    assert config.env_of("ETHUSDT") == config.env == config.env_of("ETH/USDT:USDT")
    assert config.env_of("ETHUSDT").allocation is None
    one = of(("SOLUSDT",))
    assert (one.symbols, one.env.symbol, one.env_of("SOLUSDT").allocation) == (
        ("SOLUSDT",),
        "SOLUSDT",
        None,
    )


def test_several_symbols_share_the_fields_and_the_equity():
    config = of(SEVERAL, leverage=3)
    assert config.symbols == SEVERAL
    for symbol in SEVERAL:
        env = config.env_of(symbol)
        assert (env.symbol, env.leverage, env.allocation) == (symbol, 3, pytest.approx(1 / 3))
    # Any spelling finds it; what the configuration wrote stays.
    assert config.env_of("ETHUSDT").symbol == "ETH/USDT"
    with pytest.raises(KeyError, match="XRPUSDT: not traded; known: BTCUSDT, "):
        config.env_of("XRPUSDT")


@pytest.mark.parametrize("allocation", [0.25, 1 / 3, 500.0])
def test_an_allocation_is_that_of_every_symbol(allocation):
    config = of(SEVERAL, allocation=allocation)
    assert {config.env_of(symbol).allocation for symbol in SEVERAL} == {allocation}


@pytest.mark.parametrize(
    ("symbols", "fields", "message"),
    [
        (SEVERAL, {"allocation": 0.34}, "allocation: 3 symbols with 0.34 of the equity each need"),
        (SEVERAL[:2], {"allocation": 1}, "allocation: 2 symbols with 1 of the equity each need 2"),
        (("BTCUSDT", "BTC/USDT"), {}, "symbols: 'BTCUSDT' and 'BTC/USDT' are one"),
        (("BTC/USDT:USDT", "ETHUSDT", "BTC/USDT"), {}, "'BTC/USDT:USDT' and 'BTC/USDT' are one"),
        (("BTC/EUR",), {}, "symbols: symbol 'BTC/EUR': expected a perpetual in USDT"),
        (SEVERAL, {"symbol": "XRPUSDT"}, "symbol: 'XRPUSDT' is none of .runner. symbols"),
    ],
    ids=["shares", "whole", "spelling", "canonical", "unknown", "beside"],
)
def test_symbols_that_do_not_fit_are_refused(symbols, fields, message):
    with pytest.raises(ConfigError, match=message):
        of(symbols, **fields)


@pytest.mark.parametrize("wrong", ["btc", "BTCUSDT,ETHUSDT", ["BTCUSDT", 3], 7], ids=str)
def test_what_is_no_symbol_is_refused(wrong):
    with pytest.raises(ConfigError, match="symbols: must be several symbols such as"):
        RunnerConfig(symbols=wrong)


def test_symbols_from_files_variables_and_options(tmp_path):
    path = write(tmp_path, "[runner]\nsymbols = ['BTCUSDT', 'ETHUSDT']\n[env]\nleverage = 2\n")
    assert load(path, {}, {}).symbols == ("BTCUSDT", "ETHUSDT")
    assert load(path, {}, {"JAXTRADE__RUNNER__SYMBOLS": "SOLUSDT"}).symbols == ("SOLUSDT",)
    config = load(path, {"runner.symbols": "['SOLUSDT', 'XRP/USDT']"}, {})
    assert config.symbols == ("SOLUSDT", "XRP/USDT") and config.env.symbol == "SOLUSDT"
    assert load(write(tmp_path, template.merged(config, {})), {}, {}) == config
    # The usual symbol counts as given where somebody wrote it.
    write(tmp_path, "[runner]\nsymbols = ['ETHUSDT', 'SOLUSDT']\n[env]\nsymbol = 'BTCUSDT'\n")
    with pytest.raises(ConfigError, match=r"symbol: 'BTCUSDT' is none of \[runner\] symbols"):
        load(path, {}, {})
    among = load(path, {"env.symbol": "SOL/USDT"}, {})
    assert (among.env.symbol, among.symbols) == ("SOL/USDT", ("ETHUSDT", "SOLUSDT"))


def test_symbols_repeat_no_warning():
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        config = of(SEVERAL)
        for symbol in SEVERAL:
            config.env_of(symbol)
    assert [str(note.message).partition(":")[0] for note in noted] == ["action_levels"]


def test_kelly_sizing_is_a_table_of_the_environment(tmp_path):
    text = "[env]\nname = 'BybitFuturesSLTPTradingEnv'\ntrade_mode = 'fractional'\n[env.kelly]\n"
    assert load(write(tmp_path, text), {}, {}).env.kelly == KellySizing()
    config = load(write(tmp_path, text + "cap = 0.25\n"), {"env.kelly.prior_count": "40"}, {})
    assert config.env.kelly == KellySizing(cap=0.25, prior_count=40)
    assert load(write(tmp_path, template.merged(config, {})), {}, {}) == config
    assert BRACKETS().kelly is None


# Modes ------------------------------------------------------------------------------------------


def config_of(mode: str, *, demo: bool, **more) -> LiveConfig:
    return LiveConfig(runner=RunnerConfig(mode=mode), env=LEVELS(demo=demo, **more))


def test_the_three_modes_that_make_sense():
    assert LiveConfig().runner.mode == "paper"
    check_modes(LiveConfig())
    check_modes(config_of("demo", demo=True))
    check_modes(config_of("live", demo=False), "12345")


@pytest.mark.parametrize(
    ("mode", "demo", "confirm", "message"),
    [
        ("live", True, "12345", r"\[env\] demo: must be false"),
        ("live", False, None, "confirm it with --confirm-live"),
        ("live", False, "", "confirm it with --confirm-live"),
        ("live", True, None, "demo.*--confirm-live"),
        ("demo", False, None, "demo: must be true"),
        ("demo", True, "12345", "only for mode 'live'"),
        ("paper", False, None, "demo: must be true"),
        ("paper", True, "12345", "only for mode 'live'"),
        ("paper", False, "12345", "demo: must be true"),
    ],
)
def test_every_other_combination_is_refused(mode, demo, confirm, message):
    with pytest.raises(ConfigError, match=message):
        check_modes(config_of(mode, demo=demo), confirm)


def test_real_money_is_not_traded_on_a_local_server():
    config = dataclasses.replace(
        config_of("live", demo=False), venue=VenueConfig(base_url="http://127.0.0.1:1")
    )
    with pytest.raises(ConfigError, match="a local exchange server is not real money"):
        check_modes(config, "1")


def test_only_paper_may_do_without_a_disaster_stop():
    check_modes(config_of("paper", demo=True, disaster_stop_fraction=None))
    for mode, demo, confirm in (("demo", True, None), ("live", False, "1")):
        with pytest.raises(ConfigError, match="disaster_stop_fraction"):
            check_modes(config_of(mode, demo=demo, disaster_stop_fraction=None), confirm)


def test_the_confirmation_comes_from_either_place_but_not_two():
    assert confirmation("a", {}) == confirmation(None, {"JAXTRADE_CONFIRM_LIVE": "a"}) == "a"
    assert confirmation(None, {}) is None
    with pytest.raises(ConfigError, match="different accounts"):
        confirmation("a", {"JAXTRADE_CONFIRM_LIVE": "b"})

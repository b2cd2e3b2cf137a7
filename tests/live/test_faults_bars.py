"""Bars that are late, missing, repeated, revised or damaged, numbers that are none, and patience.

Whatever the exchange says of its bars, a decision sees closed, fresh and contiguous ones, or there
is none; a bar is decided once; and what cannot be read for long does what was configured.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jaxtrade.market.features import DEFAULT_COLUMNS
from live.journal import AlreadyDecidedError
from live.observation import Observer
from live.risk import TradingState
from tests.live.bybit_server import ask_once, be_patient
from tests.live.harness import BTC, FLAT, LONG, SHORT, SYMBOL, Rig, trading

ONE: dict[str, Any] = {}
TWO: dict[str, Any] = {"env.time_frames": ["1min", "3min"]}
# Without its newest rows a reply is short, so every try asks for a second page.
PAGES = 2
# Frames of the daemon, and the one whose bars are spoilt, in minutes.
EVERY_FRAME = [
    pytest.param(ONE, "1", id="the_only_frame"),
    pytest.param(TWO, "1", id="finer_of_two"),
    pytest.param(TWO, "3", id="coarser_of_two"),
]


def decided(rig: Rig) -> list[Any]:
    """The decisions so far; no bar has two."""
    decisions = rig.journal.decisions(SYMBOL)
    assert len({row.bar_open_ms for row in decisions}) == len(decisions)
    return decisions


def orders(rig: Rig) -> int:
    """How often an order was asked for."""
    return len(rig.server.requests("order/create"))


def seen_by_the_policy(settings: dict[str, Any], *faults: tuple[str, str, dict[str, Any]]) -> str:
    """Digest of the observation of the third bar of a fresh exchange, under faults."""
    found: list[str] = []

    async def test(rig: Rig) -> None:
        await rig.bar(FLAT)
        await rig.bar(FLAT)
        for route, action, given in faults:
            rig.server.faults.add(route, action, **given)
        await rig.bar(LONG)
        assert len(decided(rig)) == 3
        assert rig.held > 0
        rig.check()
        found.append(decided(rig)[-1].observation_sha256)

    trading(test, settings=settings)
    return found[0]


# Late ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("settings", "minutes"), EVERY_FRAME)
def test_a_late_bar_that_arrives_in_time_is_decided(settings: dict[str, Any], minutes: str) -> None:
    async def test(rig: Rig) -> None:
        rig.server.faults.add(f"market/kline/{minutes}", "late_bar", count=3 * PAGES)
        await rig.bar(LONG)
        assert rig.held > 0
        assert len(decided(rig)) == 1
        # It was asked for again after a half, one and two seconds.
        assert rig.clock.now_ms() % 60_000 == 3_500
        rig.check()

    trading(test, settings=settings)


@pytest.mark.parametrize(("settings", "minutes"), EVERY_FRAME)
def test_a_bar_that_stays_away_is_no_decision(settings: dict[str, Any], minutes: str) -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        held, sent = rig.held, orders(rig)
        rule = rig.server.faults.add(f"market/kline/{minutes}", "late_bar", count=None)
        await rig.bar(SHORT)
        assert rule.hits == 5 * PAGES
        assert rig.desk.state is TradingState.DEGRADED
        assert (rig.held, orders(rig), len(decided(rig))) == (held, sent, 1)
        rig.check()
        rig.server.faults.clear()
        await rig.bar(SHORT)
        await rig.reconcile()
        assert rig.held < 0
        assert rig.desk.state is TradingState.ACTIVE
        assert len(decided(rig)) == 2
        rig.check()

    trading(test, settings=settings)


def test_a_bar_that_is_too_late_opens_nothing_and_still_closes() -> None:
    async def test(rig: Rig) -> None:
        rig.server.faults.add("market/kline", "late_bar", count=2 * PAGES)
        acted = await rig.bar(LONG)
        assert acted.refused == "late"
        assert rig.held == 0
        await rig.bar(LONG)
        assert rig.held > 0
        rig.server.faults.add("market/kline", "late_bar", count=2 * PAGES)
        await rig.bar(FLAT)
        assert rig.held == 0
        rig.check()

    trading(test, settings={"runner.bar_deadline": "1"})


# Missing, repeated, revised -----------------------------------------------------------------------


@pytest.mark.parametrize(("settings", "minutes"), EVERY_FRAME)
def test_what_the_second_look_mends_is_decided_as_if_nothing_had_been(
    settings: dict[str, Any], minutes: str
) -> None:
    route = f"market/kline/{minutes}"
    whole = seen_by_the_policy(settings)
    assert whole == seen_by_the_policy(settings, (route, "missing_bar", {"row": 3}))
    assert whole == seen_by_the_policy(settings, (route, "repeat_bar", {"row": 1}))
    assert whole == seen_by_the_policy(settings, (route, "late_bar", {"count": PAGES}))
    assert whole != seen_by_the_policy(settings, (route, "revise_bar", {"row": 1}))


@pytest.mark.parametrize(("settings", "minutes"), EVERY_FRAME)
@pytest.mark.parametrize("fault", ["hole", "two_versions"])
def test_what_is_not_contiguous_or_contradicts_itself_is_no_decision(
    fault: str, settings: dict[str, Any], minutes: str
) -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        held, sent = rig.held, orders(rig)
        add, route = rig.server.faults.add, f"market/kline/{minutes}"
        if fault == "hole":
            add(route, "missing_bar", row=3)
            add(route, "mutate_field", None, skip=1, path="result.list", value=[])
        else:
            add(route, "repeat_bar", row=2)
            add(route, "revise_bar", row=2)
        await rig.bar(SHORT)
        assert rig.desk.state is TradingState.DEGRADED
        assert (rig.held, orders(rig), len(decided(rig))) == (held, sent, 1)
        rig.server.faults.clear()
        await rig.bar(SHORT)
        assert rig.held < 0
        rig.check()

    trading(test, settings=settings)


@pytest.mark.parametrize(("settings", "minutes"), EVERY_FRAME)
def test_a_revised_bar_is_told_and_decided_once(settings: dict[str, Any], minutes: str) -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        rig.server.faults.add(f"market/kline/{minutes}", "revise_bar", row=4)
        await rig.bar(LONG)
        assert len(decided(rig)) == 2
        assert orders(rig) == 1
        (revised,) = rig.journal.history(kind="bar_revised")
        assert revised.body["frame"] == f"{minutes}Minute"
        rig.check()

    trading(test, settings=settings)


def test_a_bar_is_decided_once_however_often_it_is_acted_on() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        held, sent = rig.held, orders(rig)
        view = rig.trader.view
        assert view is not None
        for action in (LONG, SHORT, FLAT):
            with pytest.raises(AlreadyDecidedError):
                await rig.trader.act(view, action)
        assert (rig.held, orders(rig), len(decided(rig))) == (held, sent, 1)
        rig.check()

    trading(test)


# Damaged ------------------------------------------------------------------------------------------

_NEWEST = "result.list.1"
_BROKEN_ROWS = [
    pytest.param({"path": f"{_NEWEST}.{column}", "value": value}, id=f"{name}_{shown}")
    for column, name in enumerate(("start", "open", "high", "low", "close", "volume"))
    for shown, value in (("none", None), ("nan", "NaN"), ("inf", "Infinity"), ("negative", "-1"))
] + [
    pytest.param({"path": f"{_NEWEST}.2", "value": "1"}, id="high_below_low"),
    pytest.param({"path": f"{_NEWEST}.3", "value": "999999999"}, id="low_above_high"),
    pytest.param({"path": f"{_NEWEST}.4", "value": "0"}, id="close_of_nothing"),
    pytest.param({"path": _NEWEST, "value": []}, id="empty_row"),
    pytest.param({"path": _NEWEST, "value": "row"}, id="no_row"),
    pytest.param({"path": "result.list", "value": []}, id="no_bars"),
]


def test_a_row_that_makes_no_sense_spoils_its_bar_and_no_other() -> None:
    async def test(rig: Rig) -> None:
        bars = 0
        for case in _BROKEN_ROWS:
            (given,) = case.values
            rig.server.faults.add("market/kline", "mutate_field", None, **given)
            await rig.bar(LONG)
            assert orders(rig) == 0, case.id
            assert len(decided(rig)) == bars, case.id
            assert rig.desk.state is TradingState.DEGRADED, case.id
            rig.server.faults.clear()
            if not bars % 2:  # two in a row may be unreadable, three not
                await rig.bar(FLAT)
                bars += 1
                assert len(decided(rig)) == bars
        await rig.bar(LONG)
        assert rig.held > 0
        rig.check()

    trading(test, settings={"env.unreadable_grace_bars": "99"})


def spoilt_features(column: str, value: float, armed: list[bool]) -> Any:
    """Four features of a bar, one of which is no number while ``armed``."""

    def features(frame: pd.DataFrame) -> pd.DataFrame:
        made = pd.DataFrame(
            {
                "feature_close": np.log(frame["close"]).diff().fillna(0.0),
                "feature_range": frame["high"] / frame["low"] - 1,
                "feature_body": frame["close"] / frame["open"] - 1,
                "feature_volume": np.log1p(frame["volume"]),
            },
            index=frame.index,
        )
        if armed and column in made:
            made.loc[made.index[-1], column] = value
        return made

    return features


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize(
    "column", ["feature_close", "feature_range", "feature_body", "feature_volume"]
)
def test_a_feature_that_is_no_number_is_named_and_decides_nothing(
    column: str, value: float
) -> None:
    async def test(rig: Rig) -> None:
        armed: list[bool] = []
        rig.trader.observer = Observer.create(
            time_frames="1min",
            window_sizes=8,
            execute_on="1min",
            features=spoilt_features(column, value, armed),
            leverage=3.0,
        )
        await rig.bar(LONG)
        held, sent = rig.held, orders(rig)
        armed.append(True)
        await rig.bar(SHORT)
        assert (rig.held, orders(rig), len(decided(rig))) == (held, sent, 1)
        assert rig.desk.state is TradingState.DEGRADED
        (told,) = rig.journal.history(kind="unreadable")
        assert f"{column} is not finite" in told.body["detail"]
        armed.clear()
        await rig.bar(SHORT)
        assert rig.held < 0
        rig.check()

    trading(test)


def test_the_usual_features_are_numbers_whatever_valid_bars_hold() -> None:
    """No valid bar makes one of the default columns anything but finite."""
    observer = Observer.create(time_frames="1min", window_sizes=8, execute_on="1min")
    assert observer.spec.feature_columns == (DEFAULT_COLUMNS,)

    async def test(rig: Rig) -> None:
        for volume, price in (("0", None), ("1e30", None), ("0", "0.0000001"), ("0", "1e15")):
            add = rig.server.faults.add
            add("market/kline", "mutate_field", None, path=f"{_NEWEST}.5", value=volume)
            for column in (1, 2, 3, 4) if price else ():
                add("market/kline", "mutate_field", None, path=f"{_NEWEST}.{column}", value=price)
            before = len(decided(rig))
            await rig.bar(FLAT)
            assert len(decided(rig)) == before + 1, (volume, price)
            rig.server.faults.clear()
        rig.check()

    trading(test)


# What the policy answers --------------------------------------------------------------------------

_NO_ACTION = {
    "nan": math.nan,
    "inf": math.inf,
    "negative": -1,
    "too_large": 3,
    "fraction": 1.5,
    "nothing": None,
    "text": "1",
    "several": [1, 2],
    "nan_array": np.array([math.nan]),
    "true": True,
}


def test_an_answer_that_is_no_action_holds() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        held, sent = rig.held, orders(rig)
        for name, answer in _NO_ACTION.items():
            acted = await rig.bar(answer)
            assert (acted.decision, acted.refused) == ("hold", "invalid_action"), name
            await rig.bar(LONG)  # a good one in between: counted afresh
            assert rig.desk.state is TradingState.ACTIVE, name
        assert (rig.held, orders(rig)) == (held, sent)
        assert len(decided(rig)) == 1 + 2 * len(_NO_ACTION)
        rig.check()

    trading(test)


@pytest.mark.parametrize("answer", [math.nan, None], ids=["nan", "nothing"])
def test_three_answers_in_a_row_that_are_no_action_end_new_risk(answer: Any) -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        for state in (TradingState.ACTIVE, TradingState.ACTIVE, TradingState.REDUCING):
            await rig.bar(answer)
            assert rig.desk.state is state
        assert rig.desk.standing.reasons == ("invalid_action",)
        await rig.bar(SHORT)
        assert rig.held == 0  # the exit of a turn passes, its entry does not
        rig.check()

    trading(test)


# Patience -----------------------------------------------------------------------------------------


def blind(rig: Rig) -> None:
    """From now on no bar can be read."""
    rig.server.faults.add("market/kline", "mutate_field", None, path="result.list", value=[])


@pytest.mark.parametrize("grace", [1, 3])
def test_halt_keeps_the_position_and_its_stop(grace: int) -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        held, sent = rig.held, orders(rig)
        blind(rig)
        for _ in range(grace - 1):
            await rig.bar(SHORT)
            assert rig.desk.state is TradingState.DEGRADED
        await rig.bar(SHORT)
        assert rig.desk.state is TradingState.HALTED
        assert rig.desk.standing.reasons[0] == "observation"
        assert (rig.held, orders(rig)) == (held, sent)
        rig.check()
        rig.server.faults.clear()
        await rig.bar(FLAT)
        await rig.bar(SHORT)
        assert rig.desk.state is TradingState.HALTED  # only a person ends it
        assert (rig.held, orders(rig)) == (held, sent)
        rig.check()

    trading(test, settings={"env.unreadable_grace_bars": str(grace)})


def test_a_readable_bar_in_between_begins_the_count_afresh() -> None:
    async def test(rig: Rig) -> None:
        for _ in range(3):
            blind(rig)
            await rig.bar(LONG)
            await rig.bar(LONG)
            assert rig.desk.state is TradingState.DEGRADED
            rig.server.faults.clear()
            await rig.bar(FLAT)
        assert rig.desk.state is TradingState.ACTIVE
        rig.check()

    trading(test)


FLATTEN = {"env.observation_failure_policy": "flatten"}
HOLD = {"env.observation_failure_policy": "hold"}


def test_flatten_closes_by_what_the_venue_holds_and_halts() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(SHORT)
        blind(rig)
        for _ in range(3):
            assert rig.held < 0
            await rig.bar(LONG)
        assert rig.held == 0
        assert rig.desk.state is TradingState.HALTED
        assert "observation" in rig.desk.standing.reasons
        assert rig.server.engine.orders(BTC, live=True) == []
        (closing,) = [order for order in rig.server.engine.orders(BTC) if order.client_id][1:]
        assert closing.reduce_only
        rig.check()

    trading(test, settings=FLATTEN)


def test_a_flatten_that_could_not_be_confirmed_is_tried_again() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        ask_once(rig.daemon.venue)
        for route in ("position/list", "market/kline"):
            rig.server.faults.add(route, "mutate_field", None, path="result.list", value=[])
        for _ in range(3):
            await rig.bar(SHORT)
        assert rig.desk.state is TradingState.HALTED
        assert rig.held > 0  # what is held is not known, so nothing is sold
        rig.check()
        rig.server.faults.clear()
        be_patient(rig.daemon.venue)
        await rig.bar(LONG)
        assert rig.held == 0
        rig.check()

    trading(test, settings=FLATTEN)


def test_hold_waits_behind_a_stop() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        held, sent = rig.held, orders(rig)
        blind(rig)
        for _ in range(5):
            await rig.bar(SHORT)
            assert rig.desk.state is TradingState.DEGRADED
        assert (rig.held, orders(rig)) == (held, sent)
        rig.check()
        rig.server.faults.clear()
        await rig.bar(SHORT)
        await rig.reconcile()
        assert rig.desk.state is TradingState.ACTIVE
        assert rig.held < 0
        rig.check()

    trading(test, settings=HOLD)


def test_hold_waits_where_nothing_is_held() -> None:
    async def test(rig: Rig) -> None:
        blind(rig)
        for _ in range(5):
            await rig.bar(LONG)
            assert rig.desk.state is TradingState.DEGRADED
        assert orders(rig) == 0

    trading(test, settings=HOLD)


def test_hold_without_a_stop_is_a_halt() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        held = rig.held
        rig.server.engine.reject_stops(100)
        rig.server.engine.cancel_stop(BTC)
        blind(rig)
        for _ in range(3):
            assert rig.desk.state is TradingState.DEGRADED or rig.held == held
            await rig.bar(SHORT)
        assert rig.desk.state is TradingState.HALTED
        assert rig.held <= held

    trading(test, settings=HOLD)


def test_hold_in_the_dark_trusts_only_what_was_seen() -> None:
    """With nothing readable at all, the stop of the last look counts; without any look, nothing."""

    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        ask_once(rig.daemon.venue)
        for route in ("position/list", "market/kline"):
            rig.server.faults.add(route, "mutate_field", None, path="result.list", value=[])
        for _ in range(4):
            await rig.bar(SHORT)
            assert rig.desk.state is TradingState.DEGRADED
        rig.server.faults.clear()
        be_patient(rig.daemon.venue)
        await rig.bar(SHORT)
        await rig.reconcile()
        assert rig.held < 0
        rig.check()

    trading(test, settings=HOLD)

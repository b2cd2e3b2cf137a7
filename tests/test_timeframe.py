"""Every spelling of a duration is one TimeFrame."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtrade.timeframe import TimeFrame, parse_time_frames

EXPECTED = "expected a number and a unit such as '5min', '1hour' or (5, \"Minute\")."


def quietly(spec: Any) -> TimeFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return TimeFrame.parse(spec)


@pytest.mark.parametrize(
    "spec", ["1m", "1min", "1Min", "1 Minute", " 1minutes ", "1MIN", (1, "Minute"), [1, "m"]]
)
def test_spellings_of_one_minute(spec: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame = TimeFrame.parse(spec)
    assert frame == TimeFrame(1, "Minute")
    assert hash(frame) == hash(TimeFrame(1, "Minute"))
    assert (frame.name, frame.minutes, frame.seconds) == ("1Minute", 1, 60)
    assert frame.periods_per_year == 525_600


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("60min", "1Hour"),
        ("24h", "1Day"),
        ("48 hr", "2Day"),
        ("1440m", "1Day"),
        ((120, "m"), "2Hour"),
    ],
)
def test_renamed_frames_warn(spec: Any, name: str) -> None:
    text = f"time frame {spec!r} is written {name!r}; its observation key is 'market_data_{name}'."
    with pytest.warns(UserWarning, match=re.escape(text)):
        frame = TimeFrame.parse(spec)
    assert frame.name == name


@pytest.mark.parametrize(
    ("spec", "name"), [("90min", "90Minute"), ("25h", "25Hour"), ("7D", "7Day")]
)
def test_names_that_stay(spec: str, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert TimeFrame.parse(spec).name == name


def test_constructor_normalises_like_parse() -> None:
    with pytest.warns(UserWarning, match=r"time frame \(60, 'min'\) is written '1Hour'") as record:
        frame = TimeFrame(60, "min")
    assert (frame.value, frame.unit) == (1, "Hour")
    assert record[0].filename == __file__
    assert TimeFrame.parse(frame) is frame


@pytest.mark.parametrize(
    "spec",
    ["", "min", "5", "0min", "-1min", "1.5h", "5min 3", None, 5, 5.0, (1.5, "min"), (True, "min"),
     ("5", "min"), (5,), {"min": 5}, "٣min", "9" * 5000 + "min", "999999999999d"],
)  # fmt: skip
def test_not_a_spelling(spec: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(EXPECTED)) as error:
        TimeFrame.parse(spec)
    assert str(error.value).startswith("time frame ")
    assert len(str(error.value)) < 300


def test_exact_messages() -> None:
    with pytest.raises(ValueError) as error:
        TimeFrame.parse("five minutes")
    assert str(error.value) == f"time frame 'five minutes': {EXPECTED}"
    with pytest.raises(ValueError) as error:
        TimeFrame.parse("1week")
    assert str(error.value) == "time frame '1week': unknown unit 'week'; use minute, hour or day."
    with pytest.raises(ValueError) as error:
        TimeFrame.parse("1M")
    assert str(error.value) == "time frame '1M': ambiguous (month is not supported); write '1min'."
    with pytest.raises(ValueError, match=re.escape("(15, 'M'): ambiguous")):
        TimeFrame.parse((15, "M"))


@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_order_and_hash_follow_the_duration(a: int, b: int) -> None:
    one, two = quietly((a, "min")), quietly((b, "min"))
    assert one.minutes == a
    assert (one < two, one == two, one >= two) == (a < b, a == b, a >= b)
    assert quietly(one.name) == one
    assert (hash(one) == hash(two)) or a != b


def test_periods_per_year() -> None:
    assert TimeFrame.parse("1h").periods_per_year == 8760
    assert TimeFrame.parse("7min").periods_per_year == 525_600 / 7


def test_parse_time_frames() -> None:
    assert parse_time_frames("5min") == (TimeFrame(5, "Minute"),)
    assert parse_time_frames((5, "Minute")) == (TimeFrame(5, "Minute"),)
    assert parse_time_frames(["5min", (1, "Hour")]) == (
        TimeFrame(5, "Minute"),
        TimeFrame(1, "Hour"),
    )
    with pytest.raises(ValueError) as error:
        parse_time_frames([])
    assert str(error.value) == "time_frames: needs at least one time frame."
    with (
        pytest.warns(UserWarning, match="is written"),
        pytest.raises(ValueError, match="given twice") as error,
    ):
        parse_time_frames(["1hour", "5min", "60min"])
    assert str(error.value) == "time_frames: 1Hour is given twice (as '1hour' and '60min')."
    with pytest.raises(ValueError, match=re.escape(EXPECTED)):
        parse_time_frames(7)

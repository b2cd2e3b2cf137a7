"""The code table of Bybit: every row, and everything that is not in it."""

from __future__ import annotations

import pytest

from live.types import Ambiguous, Category, Certainty, Definitive
from live.venues import codes
from live.venues.codes import Meaning, Operation, RefusedReadError, Row

TABLE = codes.load("bybit")

# Written out a second time: a change of the table must be made twice, on purpose.
REJECTED = {
    Category.MARGIN: (110004, 110006, 110007, 110012, 110052),
    Category.REDUCE_ONLY: (110017,),
    Category.MINIMUM: (110094,),
    Category.OTHER: (110003, 10001, 10032),
    Category.RISK: (110009, 110020, 110021, 110090),
    Category.HALTED: (110023, 110074),
    Category.AUTH: (10003, 10004, 10005, 10009, 10010, 33004),
    Category.CLOCK: (10002,),
}
AMBIGUOUS = (
    *(10000, 10006, 10016, 10019, 10403, 10429, 500000, 20003, 20006),
    *(170001, 170005, 170007, 170032, 110072),
)
SUBMIT_REJECTIONS = [(code, category) for category, row in REJECTED.items() for code in row]


@pytest.mark.parametrize(("code", "category"), SUBMIT_REJECTIONS)
def test_a_refused_order_is_rejected_with_its_category(code, category):
    outcome = TABLE.outcome(code, Operation.SUBMIT, "words")
    assert outcome == Definitive(
        Certainty.REJECTED, code=str(code), category=category, detail="words"
    )


@pytest.mark.parametrize("code", AMBIGUOUS)
def test_an_order_that_may_have_arrived_is_ambiguous(code):
    assert isinstance(TABLE.outcome(code, Operation.SUBMIT, ""), Ambiguous)


@pytest.mark.parametrize("code", [1, -1, 110073, 999999, None, "110007", 110007.0, True, [], "0"])
@pytest.mark.parametrize("operation", list(Operation))
def test_a_code_that_is_not_listed_is_ambiguous(code, operation):
    assert isinstance(TABLE.outcome(code, operation, ""), Ambiguous)
    assert TABLE.refusal(code, "somewhere", "") is None


def test_the_table_has_exactly_the_rows_that_are_tested():
    submit = {code for code, operation in TABLE.rows if operation is Operation.SUBMIT}
    assert submit == {code for code, _ in SUBMIT_REJECTIONS} | set(AMBIGUOUS)


@pytest.mark.parametrize(
    ("code", "operation"),
    [
        (34040, Operation.AMEND),
        (110043, Operation.CONFIGURE),
        (110026, Operation.CONFIGURE),
        (110025, Operation.CONFIGURE),
    ],
)
def test_what_already_is_as_asked_is_accepted_there_and_nowhere_else(code, operation):
    for other in Operation:
        outcome = TABLE.outcome(code, other, "")
        if other is operation:
            assert outcome == Definitive(
                Certainty.ACCEPTED, code=str(code), detail=TABLE.rows[code, other].says
            )
        else:
            assert isinstance(outcome, Ambiguous)


def test_an_order_that_is_gone_cannot_be_cancelled_and_says_nothing_about_a_submission():
    gone = TABLE.outcome(110001, Operation.CANCEL, "")
    assert isinstance(gone, Definitive)
    assert (gone.kind, gone.category) == (Certainty.REJECTED, Category.NOT_FOUND)
    assert isinstance(TABLE.outcome(110001, Operation.SUBMIT, ""), Ambiguous)


@pytest.mark.parametrize("row", TABLE.rows.values(), ids=lambda row: f"{row.code}")
def test_reads_are_repeated_unless_the_venue_refuses_them_for_good(row):
    refusal = TABLE.refusal(row.code, "somewhere", "words")
    if Operation.READ in row.on and row.meaning is Meaning.REJECTED:
        assert isinstance(refusal, RefusedReadError)
        assert refusal.category is row.category
        assert str(row.code) in str(refusal)
    else:
        assert refusal is None


@pytest.mark.parametrize("code", [10006, 10403, 10429, 20003, 170005])
def test_codes_that_mean_too_many_requests(code):
    assert TABLE.throttled(code, Operation.SUBMIT)
    assert TABLE.throttled(code, Operation.READ)


def test_other_codes_do_not():
    assert not TABLE.throttled(10016, Operation.READ)
    assert not TABLE.throttled(None, Operation.READ)


@pytest.mark.parametrize(
    "change", [{"category": None}, {"outcome": "accepted", "category": "other"}, {"on": ["sell"]}]
)
def test_a_row_that_makes_no_sense_is_refused(change):
    raw = {"code": 1, "on": ["submit"], "outcome": "rejected", "category": "other", "says": "x"}
    raw = {name: value for name, value in (raw | change).items() if value is not None}
    with pytest.raises(ValueError, match=r"category|valid"):
        Row.parse(raw)

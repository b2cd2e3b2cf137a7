"""A daemon that is killed anywhere comes back with the account it left, and trades the next bar."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from queue import SimpleQueue

import pytest

from live.exchange.server import ExchangeServer
from live.trading.daemon import CLEAN, HALTED
from tests.live import crash_work
from tests.live.crash_work import FLAT, LONG, MINUTE, SHORT, Life, Nursery, settings

SYMBOL = "BTCUSDT"
SCRIPT = (LONG, SHORT, FLAT)
RECOVERY_MS = 30_000
STOP_DEADLINE_MS = 5_000
KILLED = -9


@contextmanager
def exchange(environment: str) -> Iterator[tuple[ExchangeServer, Life]]:
    """An exchange of its own, and the first life that trades on it."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        server = ExchangeServer()
        began, start_ms = time.monotonic(), server.engine.now_ms
        clock = crash_work.SharedClock(Path(folder) / "clock", start_ms, began)
        server.clock = clock
        with server.threaded() as url:
            yield (
                server,
                Life(
                    environment=environment,
                    crash_at="never",
                    folder=folder,
                    url=url,
                    stream_url=server.stream_url,
                    api_key=server.api_key,
                    api_secret=server.api_secret,
                    start_ms=start_ms,
                    began=began,
                    script=SCRIPT,
                    first_bar_ms=start_ms,
                    steps=len(SCRIPT),
                    name="first",
                ),
            )


@dataclasses.dataclass
class Proof:
    """What a restart after one kill showed.

    Attributes:
      died: points of the kills, in order. recovery_ms: of the last life. broken: promises that do
        not hold, in words.
    """

    asked: tuple[str, ...]
    died: list[str] = dataclasses.field(default_factory=list)
    recovery_ms: int = 0
    broken: list[str] = dataclasses.field(default_factory=list)

    def check(self, holds: bool, promise: str) -> None:
        """Note a promise that does not hold."""
        if not holds:
            self.broken.append(promise)


def prove(nursery: Nursery, environment: str, kills: Sequence[str]) -> Proof:
    """Kill a session, and for every further setting the life that recovers; look at the last."""
    proof = Proof(tuple(kills))
    with exchange(environment) as (server, first):
        life = first
        for number, setting in enumerate(kills):
            steps = len(SCRIPT) if not number else 1
            life = dataclasses.replace(
                first,
                crash_at=setting,
                steps=steps,
                name=f"life{number}",
                script=SCRIPT if not number else None,
            )
            code = nursery.bear(life)
            if code != KILLED:
                proof.check(code == 0, f"ended with {code}: {tail(life)}")
                break
            proof.died.append(life.passed()[-1])
        last = dataclasses.replace(first, crash_at=None, script=None, steps=1, name="last")
        held = server.engine.position(SYMBOL)
        begun_ms = server.clock.now_ms()
        code = nursery.bear(last)
        if code:
            proof.broken.append(f"after the restart: ended with {code}: {tail(last)}")
        else:
            judge(proof, server, last, held, begun_ms)
    return proof


def tail(life: Life) -> str:
    """What a life that should not have ended wrote."""
    path = life.file("errors")
    return path.read_text()[-1500:] if path.exists() else "no word"


def judge(proof: Proof, server: ExchangeServer, life: Life, held: Decimal, begun_ms: int) -> None:
    """The promises of a restart, against the ledger of the exchange.

    Args:
      held: position at the restart. begun_ms: of the restart.
    """
    told, check, engine = life.report(), proof.check, server.engine
    proof.recovery_ms = told["ready_ms"] - told["begun_ms"]
    check(proof.recovery_ms < RECOVERY_MS, f"recovery took {proof.recovery_ms} ms")
    # When it was ready, before it traded.
    ready, planner = Decimal(told["ready_venue"]), told["ready_planner"]
    check(ready == held, f"the start changed the position from {held} to {ready}")
    check(Decimal(told["ready_journal"]) == ready, f"journal {told['ready_journal']}, not {ready}")
    check(not ready or told["ready_stop"] is not None, "no stop when ready")
    check(not told["ready_unresolved"], f"unresolved when ready: {told['ready_unresolved']}")
    check(told["ready_state"] == "ACTIVE", f"{told['ready_state']} when ready")
    check(planner["direction"] == (ready > 0) - (ready < 0), f"planner remembers {planner}")
    check((planner["held_bars"] > 0) <= bool(ready), f"planner remembers {planner}")
    # Then the next bar.
    bar_ms = told["ready_ms"] // MINUTE * MINUTE
    decided = [(row["bar_open_ms"], row["decision"], row["refused"]) for row in told["decisions"]]
    wanted = "open" if not held else "flip"
    check(decided == [(bar_ms, wanted, None)], f"{decided} is not {wanted} at {bar_ms}")
    check(told["state"] == "ACTIVE" and not told["latches"], f"{told['state']} {told['latches']}")
    # The ledger.
    position = engine.position(SYMBOL)
    check(position * (-1 if held > 0 else 1) > 0, f"the position is {position} after {held}")
    check(Decimal(told["position"]) == position, f"journal {told['position']}, not {position}")
    trades = [one.execution_id for one in engine.executions(SYMBOL)]
    check(sorted(told["trades"]) == sorted(trades), f"booked {told['trades']} of {trades}")
    orders = [order for order in engine.orders(SYMBOL) if order.client_id]
    sent = [order.client_id for order in orders]
    check(len(set(sent)) == len(sent), f"an id twice: {sent}")
    check(set(sent) <= set(told["sent"]), f"{sent} at the venue, {told['sent']} in the journal")
    posted = len(server.requests("order/create"))
    check(posted <= len(told["sent"]), f"{posted} requests for {told['sent']}")
    minutes = [o.created_ms // MINUTE for o in orders if o.client_id[-1] == "e"]
    check(len(set(minutes)) == len(minutes), f"two entries in one bar: {minutes}")
    check(not told["unresolved"], f"unresolved: {told['unresolved']}")
    check(engine.bracket(SYMBOL).stop_price is not None, "no stop in the end")
    for gap in engine.protection_gaps():
        # While nobody lives nobody can place a stop; the clock runs from the restart.
        end = gap.end_ms or engine.now_ms
        bare = end - (begun_ms if gap.start_ms <= begun_ms <= end else gap.start_ms)
        check(bare <= STOP_DEADLINE_MS, f"without a stop for {bare} ms")


def prove_all(environment: str, kills: Sequence[Sequence[str]]) -> list[Proof]:
    """Two proofs at a time."""
    with ExitStack() as stack:
        idle: SimpleQueue[Nursery] = SimpleQueue()
        for _ in range(min(2, len(kills))):
            idle.put(stack.enter_context(crash_work.nursery()))

        def one(settings: Sequence[str]) -> Proof:
            nursery = idle.get()
            try:
                return prove(nursery, environment, settings)
            finally:
                idle.put(nursery)

        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(one, kills))


def session(environment: str, *kills: str) -> list[str]:
    """The crash points of a session that nobody kills, or of the life after some kills."""
    with crash_work.nursery() as nursery, exchange(environment) as (server, first):
        for number, setting in enumerate(kills):
            life = dataclasses.replace(first, crash_at=setting, name=f"life{number}")
            assert nursery.bear(life) == KILLED
        last = dataclasses.replace(first, name="last")
        if kills:
            last = dataclasses.replace(last, script=None, steps=1)
        assert nursery.bear(last) == 0, tail(last)
        decided = [row["decision"] for row in last.report()["decisions"]]
        if not kills:
            assert decided == ["open", "flip", "close"]
            assert not server.engine.position(SYMBOL)
        return last.passed()


def report(proofs: list[Proof]) -> str:
    """Every proof that failed, a line each."""
    return "\n".join(f"{one.asked}: {'; '.join(one.broken)}" for one in proofs if one.broken)


# What is in doubt after each: nothing left; it left and nobody heard; a fill nobody booked; a flip
# without its second half; a position without its stop.
@pytest.mark.parametrize(
    ("environment", "points"),
    [
        ("levels", ("bybit.submit.before:1", "send.after:1", "bybit.amend.before:2")),
        ("brackets", ("journal.book.before:1", "journal.add_intents.before:1")),
    ],
)
def test_a_kill_in_doubt_is_recovered_from(environment: str, points: tuple[str, ...]):
    proofs = prove_all(environment, [(point,) for point in points])
    assert not report(proofs), report(proofs)
    assert [proof.died for proof in proofs] == [[point[:-2]] for point in points]


def test_a_stop_that_fired_while_nobody_lived_is_booked_as_one():
    with crash_work.nursery() as nursery:
        for environment, point, latches in (
            ("brackets", "journal.book.after:1", []),
            ("levels", "journal.protection.after:1", ["disaster_stop"]),
        ):
            with exchange(environment) as (server, first):
                killed = dataclasses.replace(first, crash_at=point)
                assert nursery.bear(killed) == KILLED
                assert server.engine.position(SYMBOL) > 0
                for _ in range(300):
                    server.advance(60 * MINUTE)
                    if not server.engine.position(SYMBOL):
                        break
                assert not server.engine.position(SYMBOL), "the prices reach a leg"
                last = dataclasses.replace(first, crash_at=None, script=None, steps=1, name="last")
                code = nursery.bear(last)
                assert code == (HALTED if latches else CLEAN), tail(last)
                told = last.report()
                # The loss may also be one of the day.
                assert [one for one in told["latches"] if one != "daily_loss"] == latches
                assert Decimal(told["ready_journal"]) == 0
                decided = [(row["decision"], row["refused"]) for row in told["decisions"]]
                assert decided == [("open", "state" if latches else None)]
                assert len(told["trades"]) == len(server.engine.executions(SYMBOL))


# Time runs on: now and then a price moves between quote and fill, and a bracket is set anew. Where
# every position gets its stop after the fill (levels), each run passes these.
RARE = {"brackets": {"bybit.amend.before", "bybit.amend.after"}}


@pytest.mark.slow
@pytest.mark.parametrize("environment", crash_work.ENVIRONMENTS)
def test_a_kill_at_any_point_of_a_session_is_recovered_from(environment: str):
    passed = session(environment)
    proofs = prove_all(environment, [(point,) for point in settings(passed)])
    assert not report(proofs), report(proofs)
    # How often the streams wake the daemon differs from run to run, so the last of many looks may
    # not be there; but nothing is passed that was not died at.
    died = {point for proof in proofs for point in proof.died}
    assert died <= set(passed) <= died | RARE.get(environment, set())
    assert sum(bool(proof.died) for proof in proofs) > 0.9 * len(passed)
    print(
        f"{environment}: killed at {sum(bool(proof.died) for proof in proofs)} of {len(passed)}"
        f" points; slowest recovery {max(proof.recovery_ms for proof in proofs)} ms"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "first"),
    [("levels", "bybit.amend.before:1"), ("brackets", "bybit.submit.after:2")],
)
def test_a_kill_during_the_recovery_is_recovered_from(environment: str, first: str):
    passed = session(environment, first)
    passed = passed[: passed.index("journal.decide.before")]
    proofs = prove_all(environment, [(first, point) for point in settings(passed)])
    assert not report(proofs), report(proofs)
    assert {proof.died[1] for proof in proofs if len(proof.died) == 2} == set(passed)
    print(f"{environment}: killed at {len(passed)} points of a recovery")

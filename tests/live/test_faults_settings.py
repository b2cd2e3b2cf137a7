"""Leverage and modes that are not, or no longer, what was asked for; policies made for others."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest

from jaxtrade import SequentialTradingEnv, SequentialTradingEnvConfig
from jaxtrade.bundle import Bundle
from jaxtrade.descriptions import hash_of
from live.config import load
from live.reconcile.findings import SettingsChanged, SettingsUnread
from live.risk import TradingState
from live.trading.assembly import set_up
from live.trading.settings import SettingsWatch
from live.types import Configured, MarginMode, PositionMode, UnreadableError
from tests.live.harness import (
    BTC,
    FLAT,
    HISTORY,
    LONG,
    SETTINGS,
    SHORT,
    SYMBOL,
    Rig,
    exchange,
    minutes,
    trading,
    venue_of,
)

WANTED = Configured(Decimal(3), MarginMode.ISOLATED, PositionMode.ONE_WAY)
OFTEN = {"reconcile.settings_bars": "2"}
CHANGES: dict[str, dict[str, Any]] = {
    "leverage": {"long_leverage": Decimal(2), "short_leverage": Decimal(2)},
    "margin_mode": {"margin_mode": MarginMode.CROSS},
    "position_mode": {"position_mode": PositionMode.HEDGE},
}


def test_a_start_is_refused_where_the_venue_keeps_the_old_leverage() -> None:
    async def run() -> None:
        server = exchange(minutes(HISTORY + 2), HISTORY)
        server.engine.keep_leverage()
        async with server.running() as url:
            config = load(None, {**SETTINGS, "venue.base_url": url}, {})
            venue = venue_of(server)
            await venue.connect()
            try:
                with pytest.raises(ValueError, match="leverage is 10, not 3"):
                    await set_up(venue, config.env)
            finally:
                await venue.close()
        assert server.requests("position/set-leverage")
        assert not server.requests("order/create")

    asyncio.run(run())


@pytest.mark.parametrize("changed", list(CHANGES))
def test_a_setting_that_changes_later_ends_new_risk(changed: str) -> None:
    async def test(rig: Rig) -> None:
        assert await rig.daemon.venue.settings(SYMBOL) == WANTED
        rig.server.engine.override(BTC, **CHANGES[changed])
        for _ in range(3):
            await rig.bar(FLAT)
        assert rig.desk.state is TradingState.REDUCING
        assert rig.desk.standing.reasons == ("settings",)
        acted = await rig.bar(LONG)
        assert acted.refused == "state"
        assert not rig.server.requests("order/create")
        # It was only read: who changed it may have meant it.
        assert len(rig.server.requests("position/set-leverage")) == 1
        rig.check()

    trading(test, settings=OFTEN)


def test_a_setting_that_changes_while_a_position_is_held_leaves_it_its_stop_and_its_exit() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        rig.server.engine.override(BTC, **CHANGES["leverage"])
        for _ in range(3):
            await rig.bar(LONG)
        assert rig.desk.state is TradingState.REDUCING
        rig.check()
        await rig.bar(SHORT)
        assert rig.held == 0  # the exit, and not the other side
        rig.check()

    trading(test, settings=OFTEN)


def test_settings_that_are_as_asked_change_nothing() -> None:
    async def test(rig: Rig) -> None:
        before = len(rig.server.requests("account/info"))
        for _ in range(5):
            await rig.bar(LONG)
        assert rig.desk.state is TradingState.ACTIVE
        assert len(rig.server.requests("account/info")) - before == 2  # of bars 2 and 4
        rig.check()

    trading(test, settings=OFTEN)


def test_a_check_that_cannot_be_made_opens_nothing_until_it_is() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(FLAT)
        rig.server.faults.add("account/info", "reject", count=None, code=10001)
        await rig.bar(FLAT)
        await rig.bar(LONG)
        assert rig.desk.state is TradingState.DEGRADED
        assert "settings" in rig.desk.standing.reasons
        assert rig.held == 0
        rig.server.faults.clear()
        await rig.reconcile()
        await rig.reconcile()
        assert rig.desk.state is TradingState.ACTIVE
        await rig.bar(LONG)
        assert rig.held > 0
        rig.check()

    trading(test, settings=OFTEN)


# The watch alone ----------------------------------------------------------------------------------


class Venue:
    """What the watch asks; ``answer`` may be an error."""

    def __init__(self) -> None:
        self.answer: Configured | Exception = WANTED
        self.asked = 0

    async def settings(self, symbol: str) -> Configured:
        assert symbol == SYMBOL
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def watch(venue: Any, **options: Any) -> SettingsWatch:
    return SettingsWatch(venue, SYMBOL, WANTED, **options)


def test_settings_are_read_after_so_many_bars_and_when_asked() -> None:
    async def run() -> None:
        venue = Venue()
        watched = watch(venue, every_bars=60)
        for _ in range(59):
            watched.passed(1)
            assert await watched.look() == ()
        assert venue.asked == 0
        watched.passed(1)
        assert await watched.look() == ()
        assert await watched.look() == ()
        assert venue.asked == 1
        watched.passed(100)  # bars that were missed count
        assert await watched.look() == ()
        assert venue.asked == 2
        watched.ask()
        venue.answer = Configured(Decimal(2), MarginMode.ISOLATED, PositionMode.ONE_WAY)
        assert await watched.look() == (SettingsChanged(WANTED, venue.answer),)
        assert not watched.due

    asyncio.run(run())


def test_what_could_not_be_read_stays_due() -> None:
    async def run() -> None:
        venue = Venue()
        watched = watch(venue)
        watched.ask()
        venue.answer = UnreadableError("no answer")
        assert await watched.look() == (SettingsUnread("no answer"),)
        assert await watched.look() == (SettingsUnread("no answer"),)
        venue.answer = WANTED
        assert await watched.look() == ()
        assert venue.asked == 3

    asyncio.run(run())


def test_a_venue_that_hangs_is_not_waited_for() -> None:
    class Hanging(Venue):
        async def settings(self, symbol: str) -> Configured:
            await asyncio.Event().wait()
            raise AssertionError("nobody sets it")

    async def run() -> None:
        watched = watch(Hanging(), deadline=0.01)
        watched.ask()
        (found,) = await watched.look()
        assert isinstance(found, SettingsUnread)
        assert watched.due

    asyncio.run(run())


def test_sides_of_a_hedge_with_different_leverage_are_no_setting() -> None:
    async def test(rig: Rig) -> None:
        rig.server.engine.override(
            BTC,
            position_mode=PositionMode.HEDGE,
            long_leverage=Decimal(3),
            short_leverage=Decimal(2),
        )
        with pytest.raises(UnreadableError, match="different leverage"):
            await rig.daemon.venue.settings(SYMBOL)

    trading(test)


def test_a_check_needs_a_period() -> None:
    with pytest.raises(ValueError, match="every_bars"):
        watch(Venue(), every_bars=0)


# Policy files -------------------------------------------------------------------------------------


def bundle_of(**fields: Any) -> Bundle:
    """A policy that always goes long, trained on what a rig trades."""
    trained = {"time_frames": "1min", "window_sizes": 8, "execute_on": "1min", "leverage": 3}
    config = SequentialTradingEnvConfig(
        **{**trained, "action_levels": (-1, 0, 1), "transaction_fee": 0.0004, **fields}
    )
    env = SequentialTradingEnv(minutes(200), config)

    def long(seen: Any) -> Any:
        return jnp.zeros((seen["account_state"].shape[0], 3)).at[:, 2].set(1.0)

    return Bundle.of(env, long, {"weights": jnp.arange(3.0)})


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return bundle_of()


def start(path: Path, test: Any, **settings: Any) -> None:
    """Start a daemon with a policy file; ``test`` gets its rig."""
    named = {f"env.{name}": value for name, value in settings.items()}
    trading(test, settings={"policy.baseline": "none", "policy.bundle": str(path), **named})


async def never(rig: Rig) -> None:
    raise AssertionError("it has started")


def test_the_policy_that_was_trained_for_this_is_started(bundle: Bundle, tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        assert rig.daemon.symbols[0].policy.digest

    start(bundle.save(tmp_path / "policy.zip"), test)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param(
            {"action_levels": [-1, 0, 0.9]},
            r"another action table: levels was \[-1.0, 0.0, 1.0\], .* \[-1.0, 0.0, 0.9\]",
            id="level",
        ),
        pytest.param(
            {"time_frames": ["1min", "5min"], "window_sizes": [8, 8]},
            r"time_frames: .* \['1Minute'\], .* \['1Minute', '5Minute'\]",
            id="frames",
        ),
        pytest.param({"window_sizes": "9"}, r"window_sizes: .* \[8\], .* \[9\]", id="window"),
        pytest.param(
            {"execute_on": "5min"}, "execute_on: .* 1Minute, .* 5Minute", id="execution_frame"
        ),
        pytest.param({"leverage": "1"}, "another action table: spot was False", id="spot"),
    ],
)
@pytest.mark.filterwarnings("ignore:action_levels")
def test_a_policy_that_was_trained_for_something_else_is_refused(
    settings: dict[str, Any], message: str, bundle: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        start(bundle.save(tmp_path / "policy.zip"), never, **settings)


def test_a_policy_with_its_features_in_another_order_is_refused(
    bundle: Bundle, tmp_path: Path
) -> None:
    (columns,) = bundle.features["feature_columns"]
    flipped = {**bundle.features, "feature_columns": [[columns[1], columns[0], *columns[2:]]]}
    other = dataclasses.replace(bundle, features=flipped, feature_hash=hash_of(flipped))
    with pytest.raises(ValueError, match=f"feature_columns was .*{columns[1]}.*{columns[0]}"):
        start(other.save(tmp_path / "policy.zip"), never)


@pytest.mark.parametrize("member", ["manifest.json", "policy.bin", "parameters.npz"])
def test_a_policy_file_with_one_edited_byte_is_refused(
    member: str, bundle: Bundle, tmp_path: Path
) -> None:
    path = bundle.save(tmp_path / "policy.zip")
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(member)
    middle = entry.header_offset + 30 + len(member) + entry.compress_size // 2
    content[middle] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a readable bundle"):
        start(path, never)


def test_no_edited_byte_changes_what_a_policy_does(bundle: Bundle, tmp_path: Path) -> None:
    path = bundle.save(tmp_path / "policy.zip")
    content = path.read_bytes()
    refused = 0
    for at in range(0, len(content), 5):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        try:
            read = Bundle.load(path)
        except ValueError:
            refused += 1
            continue
        # Dates and attributes of an archive mean nothing.
        assert (read.artifact, read.feature_hash, read.action_hash, read.config) == (
            bundle.artifact,
            bundle.feature_hash,
            bundle.action_hash,
            bundle.config,
        )
    assert refused > len(content) / 10


@pytest.mark.parametrize("member", ["policy.bin", "parameters.npz"])
def test_a_policy_file_that_was_packed_again_with_an_edited_byte_is_refused(
    member: str, bundle: Bundle, tmp_path: Path
) -> None:
    path = bundle.save(tmp_path / "policy.zip")
    with zipfile.ZipFile(path) as archive:
        members = {name: bytearray(archive.read(name)) for name in archive.namelist()}
    members[member][len(members[member]) // 2] ^= 1
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, bytes(data))
    path.write_bytes(packed.getvalue())
    with pytest.raises(ValueError, match=f"{member} does not have the recorded SHA-256"):
        start(path, never)

"""What is left of a position when the venue raises its smallest order."""

from __future__ import annotations

from live.config import ENVIRONMENTS
from live.exchange.opening import default_instrument
from live.trading.policies import decision_of
from live.types import Held
from tests.live.harness import BTC, FLAT, LONG, Rig, trading


def test_a_rest_below_the_smallest_order_is_closed_with_one_that_the_venue_cuts() -> None:
    async def test(rig: Rig) -> None:
        await rig.bar(LONG)
        entered = rig.held
        rig.server.engine.change_filters(BTC, min_quantity=2 * entered)
        rig.server.advance(120_000)
        snapshot = await rig.reconcile()
        assert snapshot is not None
        assert isinstance(snapshot.position, Held)
        assert snapshot.position.residue
        acted = await rig.bar(FLAT)
        assert (rig.held, acted.refused) == (0, None)
        [asked] = [one for one in rig.server.engine.orders(BTC) if one.reduce_only and one.filled]
        assert asked.filled == entered
        assert rig.journal.position(rig.trader.symbol) == 0
        rig.check()

    trading(test)


def test_every_exchange_that_is_known_says_whether_it_cuts() -> None:
    for environment in ENVIRONMENTS.values():
        config = environment(symbol="BTCUSDT", leverage=3.0)
        decision = decision_of(config, default_instrument())
        assert decision.closes_residue is config.constants.cuts_reduce_only

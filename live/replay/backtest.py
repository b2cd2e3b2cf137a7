"""A configuration's policy over recorded bars: the trader of the daemon on a simulated account.

Nothing waits and no keys are read. By default the risk gate only reports, so that the steps equal
those of jaxtrade's environments; `replay` can check that they do.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxtrade.bundle import Bundle
from jaxtrade.core import exits
from jaxtrade.market import frame as market_frame
from live.config import ConfigError, LiveConfig
from live.journal import Journal
from live.observation.bars import when
from live.policy import Policy
from live.replay import ReplayVenue
from live.replay.data import ReplayData
from live.replay.filters import unfiltered
from live.replay.money import ReplayTerms, Standing
from live.replay.parity import first_difference, refuse_incomparable, threshold_of
from live.trading.desk import Desk
from live.trading.listing import Listed
from live.trading.meter import Meter
from live.trading.policies import decision_of, policy_of
from live.trading.steward import Steward
from live.trading.stewards import Account, steward_of
from live.trading.trader import SymbolTrader
from live.types import FillKind, UnreadableError

_EXITS = {exits.STOP: "stop", exits.TARGET: "target", exits.LIQUIDATION: "liquidation"}


def replay(
    config: LiveConfig,
    data: Path | str | Any,
    *,
    check_parity: bool = False,
    enforce_risk: bool = False,
) -> dict[str, Any]:
    """Run the configured policy over bars of the past and report what became of the account.

    Costs are the configured fee, and spread and slippage of the bundle's training. Filters of the
    venue (steps, ticks, minima) are not applied.

    Args:
      data: OHLCV frame or file (timestamp = START), as `jaxtrade.Market.from_frame` takes it.
      check_parity: repeat the actions in jaxtrade's environment and compare every step.
      enforce_risk: let the gate deny and breakers flatten, as paper, demo and live always do.

    Returns: counts, money in quote units, ratios; ``would_deny`` counts by code what a gate would
      have refused, ``denied`` what it refused; with ``check_parity`` also ``parity``, and
      ``first_difference`` where it is False.

    Raises:
      ConfigError: no policy, or parity is asked for with settings that the environment lacks.
      ValueError: the data is wrong, or the policy does not fit.
    """
    if len(config.symbols) > 1:
        raise ConfigError(["[runner] symbols: a replay trades one symbol; name one"])
    if check_parity:
        refuse_incomparable(config, enforce_risk)
    return asyncio.run(_replayed(config, market_frame.load(data), check_parity, enforce_risk))


async def _replayed(
    config: LiveConfig, frame: Any, check_parity: bool, enforce_risk: bool
) -> dict[str, Any]:
    terms = terms_of(config)
    instrument = unfiltered(terms)
    decision = decision_of(config.env, instrument)
    observer, policy = policy_of(config, decision, replay=True)
    bars = ReplayData.from_frame(
        frame,
        time_frames=[one.name for one in observer.spec.time_frames],
        window_sizes=list(observer.spec.window_sizes),
        execute_on=observer.spec.execute_on.name,
        features=list(observer.features),
        rules=terms.rules,
    )
    venue = ReplayVenue(bars, terms, instrument=instrument)
    journal = Journal.open(
        None, account_id="replay", strategy_id="replay", now_ms=venue.clock.now_ms
    )
    try:
        desk = Desk(
            journal,
            config.risk,
            (instrument.symbol,),
            venue.clock,
            bankrupt_threshold=threshold_of(config),
        )
        steward = steward_of(
            config,
            config.env,
            Account(venue, journal, venue.clock, desk),
            Listed(instrument, await venue.settings(instrument.symbol)),
            decision,
            observer,
            meter=Meter(),
            wall=venue.clock.monotonic,
            enforce_risk=enforce_risk,
            simulated=True,
        )
        course = await _drive(config, venue, steward, policy)
        report = {"policy": policy.name, **await _report(course, venue, journal)}
    finally:
        journal.close()
    if check_parity:
        difference = first_difference(
            config,
            frame,
            terms,
            bars,
            start_ms=course.start_ms,
            actions=course.actions,
            standings=course.standings,
        )
        report["parity"] = difference is None
        if difference is not None:
            report["first_difference"] = difference
    return report


def terms_of(config: LiveConfig) -> ReplayTerms:
    """The configured fee; spread and slippage as a bundle was trained with, else none."""
    env, bundle = config.env, config.policy.bundle
    trained = {} if bundle is None else Bundle.load(bundle).config
    fee = env.constants.taker_fee if env.transaction_fee is None else env.transaction_fee
    return ReplayTerms(
        transaction_fee=fee,
        half_spread=float(trained.get("half_spread", 0.0)),
        slippage=float(trained.get("slippage", 0.0)),
        leverage=env.leverage,
        maintenance_margin_rate=env.maintenance_rate(),
        rules=env.rules,
    )


# The bars ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Course:
    """What a replay went through; one more standing than steps.

    Attributes:
      start_ms: START of the first bar. actions: one per step; None where nothing was decided.
    """

    start_ms: int
    standings: list[Standing]
    actions: list[Any] = field(default_factory=list)
    decisions: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0


async def _drive(
    config: LiveConfig, venue: ReplayVenue, steward: Steward, policy: Policy
) -> _Course:
    """Every bar to the end of the data, of the account, or of the steps that were asked for."""
    await _first_readable(venue, steward.trader)
    course = _Course(venue.bar_open_ms, [venue.standing])
    least = threshold_of(config) * course.standings[0].equity
    most = config.runner.max_steps
    while not venue.exhausted and (most is None or len(course.actions) < most):
        course.actions.append(await _bar(venue, steward, policy, course))
        venue.advance()
        course.standings.append(venue.standing)
        if not course.standings[-1].equity > least:
            break
    return course


async def _first_readable(venue: ReplayVenue, trader: SymbolTrader) -> None:
    """Go to the first bar with everything that the features look back on."""
    while True:
        try:
            await trader.look(venue.bar_open_ms)
        except UnreadableError as error:
            if venue.exhausted:
                raise ValueError(f"replay: no bar can be read; the last said: {error}") from None
            venue.advance()
        else:
            trader.memory.view = None  # the first step looks for itself
            return


async def _bar(venue: ReplayVenue, steward: Steward, policy: Policy, course: _Course) -> Any:
    """One step up to its order; the action, or None where nobody decided."""
    try:
        view = await steward.see(venue.bar_open_ms)
    except UnreadableError:
        course.unreadable += 1
        return None
    if await steward.closing.if_asked():
        return None
    action = policy(view.observation, view.info)
    acted = await steward.carry_out(view, action, policy_ms=0.0)
    course.decisions[str(acted.decision)] += 1
    return action


# What it came to --------------------------------------------------------------------------------


async def _report(course: _Course, venue: ReplayVenue, journal: Journal) -> dict[str, Any]:
    equity = np.array([standing.equity for standing in course.standings])
    fills = await venue.fills(venue.symbol, 0)
    trades = [fill for fill in fills if fill.kind is not FillKind.FUNDING]
    held = list(itertools.accumulate(fill.signed for fill in trades))
    exits_seen = Counter(_EXITS[row.exit_kind] for row in venue.records if row.exit_kind in _EXITS)
    return {
        "first_bar": when(course.start_ms),
        "last_bar": when(venue.bar_open_ms),
        "steps": len(course.actions),
        "trades": len(trades),
        "round_trips": sum(quantity == 0 for quantity in held),
        "fees": float(sum(fill.fee for fill in trades)),
        "funding": float(sum(fill.fee for fill in fills if fill.kind is FillKind.FUNDING)),
        "half_spread": venue.terms.half_spread,
        "slippage": venue.terms.slippage,
        "initial_equity": float(equity[0]),
        "final_equity": float(equity[-1]),
        "return": float(equity[-1] / equity[0] - 1),
        "max_drawdown": float((1 - equity / np.maximum.accumulate(equity)).max()),
        "decisions": dict(course.decisions),
        "exits": dict(exits_seen),
        "unreadable_bars": course.unreadable,
        "would_deny": _codes(journal, "would_deny"),
        "denied": _codes(journal, "denied"),
        "latches": [
            f"{when(row.set_ms)} {row.state}({row.reason}): {row.detail}"
            for row in journal.latches()
        ],
    }


def _codes(journal: Journal, kind: str) -> dict[str, int]:
    """How often the gate said which code."""
    return dict(Counter(str(row.body["code"]) for row in journal.history(kind=kind)))

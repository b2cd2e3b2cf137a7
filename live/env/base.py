"""The environment of a venue: what `reset`, `step` and `close` do, whoever the venue is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from jaxtrade.core.account import ACCOUNT_STATE_LABELS
from live.clock import Clock
from live.config.environments import ExchangeEnvConfig
from live.env import credentials
from live.env.blocking import BlockingEnv, blocking
from live.env.earning import Earning
from live.env.report import Observation, info_of, row_of
from live.env.running import Running
from live.env.starting import connected, place_of, running_of
from live.journal import Journal
from live.replay import EndOfDataError
from live.replay.filters import unfiltered
from live.replay.money import ReplayTerms
from live.risk import RiskConfig
from live.secrets import Secret
from live.trading.acts import View
from live.trading.policies import decision_of, observer_of
from live.venue import Venue

_log = logging.getLogger("live.env")


class ExchangeTradingEnv:
    """Base of the environments that trade; see the class of a venue.

    Building one makes no network call. Coroutines ``reset`` and ``step``; `sync` gives the same
    calls to programs without an event loop.

    Args:
      config: of the venue's environment.
      api_key, api_secret: else from the environment's variables; refused with ``trader``.
      feature_preprocessing_fn: features instead of the default ones, as offline.
      reward_function: name, pair or weights, as the offline configuration takes them.
      observer: a venue to read bars from. trader: one to trade on, and to read from where no
        observer is given; `live.replay.ReplayVenue` is one. None = the exchange.
      base_url, stream_url: of a local exchange server, instead of the venue's own addresses.
      journal: None keeps one in memory. risk: limits. clock: None = that of the replay, or the
        machine's, set by the venue. bar_delay: waited after a bar before it is read, seconds.
      look_every: between looks at the account while a step waits for its bar, seconds; not in a
        replay, whose bars pass at once.
      enforce_risk: None = everywhere but in a replay, whose steps are to equal the environment's.

    Attributes:
      history: one row per observation: bar_open_ms, price, action, level or side, equity,
        quantity, all after the bar.

    Raises:
      ConfigError: keys or addresses that nothing would use, even empty ones, or an address that is
        not this machine's.
      ValueError: the configuration is another environment's, or features and frames do not fit.
    """

    config_class: ClassVar[type[ExchangeEnvConfig]] = ExchangeEnvConfig
    account_state_labels = ACCOUNT_STATE_LABELS

    def __init__(
        self,
        config: ExchangeEnvConfig | None = None,
        *,
        api_key: str | Secret | None = None,
        api_secret: str | Secret | None = None,
        feature_preprocessing_fn: Callable[..., Any] | None = None,
        reward_function: Any = "log_return",
        observer: Venue | None = None,
        trader: Venue | None = None,
        base_url: str | None = None,
        stream_url: str | None = None,
        journal: Journal | None = None,
        risk: RiskConfig | None = None,
        clock: Clock | None = None,
        bar_delay: float = 1.0,
        look_every: float = 10.0,
        enforce_risk: bool | None = None,
        **unknown: Any,
    ) -> None:
        self.config: Any = self.config_class() if config is None else config
        if not isinstance(self.config, self.config_class):
            raise ValueError(
                f"config: must be a {self.config_class.__name__}; got {type(self.config).__name__}."
            )
        self._keys = {"api_key": api_key, "api_secret": api_secret}
        credentials.refuse_unknown(unknown, _ARGUMENTS, self.config)
        if trader is not None:
            credentials.refuse_given(self._keys)
        self._place = place_of(self.config, trader, base_url, stream_url)
        self._features = feature_preprocessing_fn or "default"
        self._observer, self._trades = observer, trader
        self._journal, self._risk = journal, risk or RiskConfig()
        self._clock, self._enforce = clock, enforce_risk
        self._delay, self._look_every = bar_delay, look_every
        self._earning = Earning(reward_function, self.config.execution_frame)
        self._shapes = self._declared()
        self.history: list[dict[str, Any]] = []
        self._running: Running | None = None
        self._terminated = False

    def _declared(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the observation, from the feature function on made-up bars."""
        stand_in = unfiltered(ReplayTerms(leverage=self.config.leverage))
        decision = decision_of(self.config, stand_in)
        return dict(observer_of(self.config, decision, features=self._features).shapes)

    @property
    def market_data_keys(self) -> tuple[str, ...]:
        """Keys of the windows in an observation."""
        return self.config.market_data_keys

    @property
    def observation_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every part of an observation, by its key; all are float32."""
        return dict(self._shapes)

    async def reset(self) -> tuple[Observation, dict[str, Any]]:
        """Connect where that was not done, and show the newest closed bar; trades nothing.

        A replay begins anew, account and all. A terminated account stays terminated.

        Raises:
          UnreadableError: the account or a frame cannot be read; nothing was flattened.
        """
        running = await self._start()
        self.history = []
        await running.begin(self._closing(first=running.view is None))
        view = await running.look()
        self._terminated = any(row.reason == "bankrupt" for row in running.journal.latches())
        self._earning.begin(view)
        self.history.append(row_of(view, running.told, None))
        return view.observation, self._info(running, view)

    def _closing(self, *, first: bool) -> str | None:
        """The field because of which a reset closes what is held; None = it does not."""
        if self.config.close_position_on_reset:
            return "close_position_on_reset"
        return "close_position_on_init" if first and self.config.close_position_on_init else None

    async def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Apply an action now; observation, reward and flags of the next closed bar.

        A failed order does not end the step: the next action may try again. Bars that cannot be
        read are spanned; ``missed_bars`` counts them.

        Raises:
          LiveObservationHalt: too many bars in a row could not be read.
          EndOfDataError: the step before was the last of a replay.
          RuntimeError: before `reset`, or after the account was terminated.
        """
        running = self._running
        if running is None or running.view is None:
            raise RuntimeError("step: nothing to decide on; call reset() first.")
        if self._terminated:
            raise RuntimeError(
                "step: the account is terminated: nothing can be opened any more; fund it, then "
                "rearm(by, reason) and reset()."
            )
        if running.exhausted:
            raise EndOfDataError("step: the replay stands on its last bar; call reset().")
        before = running.view
        await running.act(action)
        view = await running.next()
        told = running.told
        reward = self._earning.earned(before, view, told, action)
        if self.config.done_on_bankruptcy and await running.ruined():
            self._terminated = True
            await running.end()
        self.history.append(row_of(view, told, action))
        info = self._info(running, view)
        return view.observation, reward, self._terminated, running.exhausted, info

    async def rearm(self, by: str, reason: str) -> None:
        """Clear every latch and take the equity read last as the new baseline; then `reset`.

        Changes of the account that no order explains are accepted with it.

        Args:
          by, reason: who decides that, and why; journalled.

        Raises:
          RuntimeError: before the first `reset`. ValueError: a cause persists.
        """
        running = self._running
        if running is None:
            raise RuntimeError("rearm: nothing was read yet; call reset() first.")
        running.rearm(by, reason)
        self._terminated = False

    async def close(self, **unknown: Any) -> None:
        """Release connections; never flattens, never removes protection, never raises.

        Args:
          unknown: whatever other environments take; ignored.
        """
        del unknown
        running, self._running = self._running, None
        if running is None:
            return
        try:
            await running.close()
            if self._journal is None:
                running.journal.close()
        except Exception as error:  # the promise; whatever a venue raises while it goes
            _log.warning("close: %s: %s", type(error).__name__, error)

    def sync(self) -> AbstractContextManager[BlockingEnv]:
        """The same calls, blocking, on an event loop of their own thread; closes at its end."""
        return blocking(self)

    def _info(self, running: Running, view: View) -> dict[str, Any]:
        bar_ms = running.trader.bar_ms
        return info_of(view, running.told, running.clock, bar_ms, terminated=self._terminated)

    # What a venue supplies.

    def _exchange(self, keys: Mapping[str, Secret], clock: Clock) -> Venue:
        raise NotImplementedError

    # The pieces.

    async def _start(self) -> Running:
        running = self._running
        if running is not None and not running.replay:
            return running
        if running is None:
            venue, clock = await connected(
                self.config,
                self._keys,
                self._exchange,
                observer=self._observer,
                trader=self._trades,
                clock=self._clock,
                own_time=self._place.base_url is not None,
            )
        else:
            venue, clock = running.venue, running.clock
            await self._leave(running)
        rewind = getattr(venue, "reset", None)
        if rewind is not None:
            rewind()
        self._running = await running_of(
            self.config,
            venue,
            clock,
            features=self._features,
            journal=self._journal,
            risk=self._risk,
            enforce_risk=self._enforce,
            bar_delay=self._delay,
            look_every=self._look_every,
        )
        return self._running

    async def _leave(self, running: Running) -> None:
        """Leave the account of a replay that is about to begin anew.

        Raises:
          ValueError: the journal is one that cannot be rewound.
        """
        if self._journal is not None and self.history:
            raise ValueError(
                "reset: the journal has decided the bars of this replay already; leave journal out "
                "to have a fresh one for every episode, or make a new environment."
            )
        await running.trader.close()
        if self._journal is None:
            running.journal.close()


_ARGUMENTS = tuple(
    name for name in ExchangeTradingEnv.__init__.__kwdefaults__ or {} if name != "unknown"
)

"""Environments that trade: the offline names and calls, on an exchange instead of on past bars.

`step` applies an action now and returns what the next closed bar shows. The same planner, gate,
journal and venue adapters as those of the daemon; paper or demo accounts unless two switches say
otherwise.
"""

from live.env.base import ExchangeTradingEnv
from live.env.blocking import BlockingEnv
from live.env.bybit import BybitFuturesSLTPTradingEnv, BybitFuturesTradingEnv
from live.env.halt import LiveObservationHalt
from live.env.report import Observation

__all__ = [
    "BlockingEnv",
    "BybitFuturesSLTPTradingEnv",
    "BybitFuturesTradingEnv",
    "ExchangeTradingEnv",
    "LiveObservationHalt",
    "Observation",
]

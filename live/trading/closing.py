"""Closing the position of a symbol: because somebody says so, or because a breaker has asked."""

from __future__ import annotations

from dataclasses import dataclass

from live.trading.desk import Desk
from live.trading.trader import SymbolTrader


@dataclass(frozen=True, slots=True)
class Closing:
    """The way out of one symbol; what was asked for is asked for until flat was read."""

    trader: SymbolTrader
    desk: Desk

    async def flatten(self, reason: str) -> bool:
        """Close the position; whether flat was read. Where nobody answers, the looks go on."""
        symbol = self.trader.symbol
        self.desk.close(symbol, reason)
        flat = await self.trader.flatten(reason)
        if flat:
            self.desk.flattened(symbol)
        return flat

    async def if_asked(self) -> bool:
        """Carry out what a breaker asked for, where limits act; whether it was tried."""
        return self.trader.config.enforce_risk and await self.as_asked()

    async def as_asked(self) -> bool:
        """Carry out what was asked for, limits or not; whether anything was."""
        symbol = self.trader.symbol
        reason = self.desk.flatten_reason(symbol)
        if reason is None:
            return False
        if await self.trader.flatten(f"breaker: {reason}"):
            self.desk.flattened(symbol)
        return True

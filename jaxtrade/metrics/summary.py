"""Every metric of one episode in one table."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxtrade.metrics import curve, trades
from jaxtrade.metrics.parts import Array, periods_per_year

if TYPE_CHECKING:
    from jaxtrade.timeframe import TimeFrame

_RECORD_KEYS = (
    "equity",
    "cash",
    "quantity",
    "account_state",
    "event",
    "closed_cash",
    "exit_kind",
    "traded_notional",
    "cost",
)


@partial(jax.jit, static_argnames="ppy")
def _table(record: Mapping[str, Array], ppy: float) -> dict[str, Array]:
    equity = record["equity"]
    fall = curve.deepest_drawdown(equity)
    trip_columns = ("cash", "quantity", "event", "closed_cash", "exit_kind")
    trips = trades.round_trips(*(record[name] for name in trip_columns))
    return {
        "total_return": curve.total_return(equity),
        "annual_return": curve.annual_return(equity, ppy),
        "volatility": curve.volatility(equity, ppy),
        "sharpe_ratio": curve.sharpe_ratio(equity, ppy),
        "sortino_ratio": curve.sortino_ratio(equity, ppy),
        "max_drawdown": fall.depth,
        "max_drawdown_duration": fall.duration,
        "recovery": fall.recovery,
        "current_drawdown": fall.current,
        "peak_value": fall.peak,
        "trough_value": fall.trough,
        "calmar_ratio": curve.calmar_ratio(equity, ppy),
        "exposure_time": trades.exposure_time(record["quantity"]),
        "average_exposure": trades.average_exposure(record["account_state"][:, 0]),
        "turnover": trades.turnover(record["traded_notional"], equity),
        "costs": trades.costs(record["cost"]),
        "num_trades": trades.num_trades(trips),
        **trades.trade_statistics(trips)._asdict(),
        "open_trade": trips.open_trade,
    }


def summarize(record: Mapping[str, Any], ppy: float | TimeFrame) -> dict[str, float]:
    """Every metric of one episode as Python floats, computed in float64.

    Args:
      record: what `jaxtrade.trace` or an evaluation returns for one episode.
      ppy: periods per year, or the execution `TimeFrame`.

    Returns: the metrics by name; ``open_trade`` is 1.0 when a position is open at the end.

    Raises:
      ValueError: for a record without one of the columns the metrics need.
    """
    absent = [name for name in _RECORD_KEYS if name not in record]
    if absent:
        raise ValueError(
            f"summarize: the record has no {', '.join(absent)}; pass what jaxtrade.trace returns."
        )
    with jax.enable_x64(True):
        columns = {name: np.asarray(record[name]) for name in _RECORD_KEYS}
        table = _table(
            {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in columns.items()},
            float(periods_per_year(ppy)),
        )
        return {name: float(value) for name, value in jax.device_get(table).items()}

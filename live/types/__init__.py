"""What the live layer speaks of: positions, orders, fills, snapshots, intents and outcomes.

Plain frozen values. Money and quantities are `decimal.Decimal`, exact as venues write them; the
planner turns them into float64 for `jaxtrade.core` and rounds the result back once. Times are
integer milliseconds UTC of the venue's clock. Quantities are in base units, signed only where a
name says so.
"""

from live.types.account import (
    DUST,
    ZERO,
    AccountInfo,
    Balance,
    Configured,
    Flat,
    Held,
    MarginMode,
    Position,
    PositionMode,
    Unknown,
    confirmed_quantity,
)
from live.types.market import (
    Bars,
    Instrument,
    Quote,
)
from live.types.orders import (
    Bracket,
    Fill,
    FillKind,
    Intent,
    IntentKind,
    OrderReport,
    OrderStatus,
    Role,
    Side,
)
from live.types.outcomes import (
    Absent,
    Ambiguous,
    Answer,
    Category,
    Certainty,
    Definitive,
    Found,
    Outcome,
    Unavailable,
    UnreadableError,
)
from live.types.snapshot import (
    Snapshot,
)

__all__ = [
    "DUST",
    "ZERO",
    "Absent",
    "AccountInfo",
    "Ambiguous",
    "Answer",
    "Balance",
    "Bars",
    "Bracket",
    "Category",
    "Certainty",
    "Configured",
    "Definitive",
    "Fill",
    "FillKind",
    "Flat",
    "Found",
    "Held",
    "Instrument",
    "Intent",
    "IntentKind",
    "MarginMode",
    "OrderReport",
    "OrderStatus",
    "Outcome",
    "Position",
    "PositionMode",
    "Quote",
    "Role",
    "Side",
    "Snapshot",
    "Unavailable",
    "Unknown",
    "UnreadableError",
    "confirmed_quantity",
]

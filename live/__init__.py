"""The live layer: one asyncio process per account that trades a policy on an exchange.

From the bottom up: `types` and `venue` are the words; `planner`, `orders`, `risk`, `reconcile` and
`observation` decide and do no I/O; `journal` writes to disk, `clock` keeps time; `venues`, `replay`
and `paper` fill orders; `trading` brings them together bar after bar, `config`, `operations` and
`runner` make a daemon of it; `exchange` is an exchange to rehearse with. The layer stands on
``jaxtrade.core`` and ``jaxtrade.market`` and imports neither gymnax nor ``agents``: a policy
reaches it as a `jaxtrade.bundle.Bundle`, a baseline or a function.
"""

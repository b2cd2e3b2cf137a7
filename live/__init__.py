"""The live layer: one asyncio process per account that trades a policy bundle on a real exchange.

Nothing is here yet. The layer will stand on ``jaxtrade.core`` and ``jaxtrade.market`` and import
neither gymnax nor ``agents``: a policy reaches it as a :class:`jaxtrade.bundle.Bundle`.
"""

"""A local exchange: real wire protocols over an own matching engine, ledger, clock and faults.

`live.exchange.server.ExchangeServer` is what tests start; `live.exchange.engine.Engine` is the
truth it holds; `live.exchange.faults` is what can go wrong on the wire.
"""

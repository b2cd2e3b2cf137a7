"""Measurements of the live layer against a local exchange in a process of its own.

python -m live.bench latency     # one symbol: decision to order at the exchange
python -m live.bench load        # 200 symbols on one-minute bars, in real time
python -m live.bench drift       # an hour of bars, twenty times as fast
python -m live.bench soak        # a day of bars on a clock that does not wait: memory
python -m live.bench storm       # 10 000 bars with faults at random: what must hold of the ledger
"""

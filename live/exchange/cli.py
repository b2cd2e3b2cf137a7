"""The command ``jaxtrade exchange``: runs a local exchange for demonstrations and by hand."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from live.exchange.opening import named, wall_ms
from live.exchange.server import VENUES, ExchangeServer
from live.types import Instrument

SUCCESS, ERROR = 0, 1

_SHOWN = """\
{venue} speaks on {url}; streams on {stream_url}/v5/private and {stream_url}/v5/public/linear
  api key     {api_key}
  api secret  {api_secret}
  account     {account_id}
  symbols     {symbols}
  balance     {balance}
Press Ctrl-C to stop.
"""


def exchange(argv: Sequence[str]) -> int:
    """Run an exchange on this machine that speaks the protocol of a real one."""
    given = _parser().parse_args(list(argv))
    try:
        server = ExchangeServer(
            given.frame,
            _listed(given.symbols, given.frame),
            venue=given.venue,
            initial_balance=given.initial_balance,
            seed=given.seed,
            speed=given.speed,
            history=given.history,
            anchor=given.anchor,
        )
        for fault in given.fault:
            _add_fault(server, fault)
        asyncio.run(_serve(server, given.venue, given.port, given.anchor))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return ERROR
    return SUCCESS


async def _serve(server: ExchangeServer, venue: str, port: int, anchor: str) -> None:
    async with server.running(port):
        if anchor == "now":  # it opened at the newest bar's end; clients compare clocks
            server.advance_to(wall_ms())
        sys.stdout.write(
            _SHOWN.format(
                venue=venue,
                url=server.url,
                stream_url=server.stream_url,
                api_key=server.api_key,
                api_secret=server.api_secret,
                account_id=server.account_id,
                symbols=" ".join(server.engine.instruments),
                balance=server.engine.equity(),
            )
        )
        sys.stdout.flush()
        await asyncio.Event().wait()


def _listed(text: str, frame: Path | None) -> list[Instrument]:
    """What the names of a list stand for.

    Raises:
      ValueError: naming what is wrong with it.
    """
    names = [name.strip() for name in text.split(",")]
    if len(set(names)) != len(names):
        raise ValueError(f"--symbols {text!r}: a name comes twice")
    if frame is not None and len(names) > 1:
        raise ValueError(f"--symbols {text!r}: --frame has the bars of one symbol; name one")
    return [named(name) for name in names]


def _add_fault(server: ExchangeServer, text: str) -> None:
    """One fault as the command line spells it.

    Raises:
      ValueError: naming what is wrong with it.
    """
    words = text.split()
    plain = [word for word in words if "=" not in word]
    if not 2 <= len(plain) <= 3:
        raise ValueError(f"--fault {text!r}: expected ROUTE ACTION [COUNT|all] [NAME=VALUE ...]")
    count = plain[2] if len(plain) == 3 else "1"
    if count != "all" and not count.isdecimal():
        raise ValueError(f"--fault {text!r}: expected a whole number or 'all', was {count!r}")
    given = dict(word.split("=", 1) for word in words if "=" in word)
    values: dict[str, Any] = {name: _value(value) for name, value in given.items()}
    server.faults.add(plain[0], plain[1], None if count == "all" else int(count), **values)


def _value(text: str) -> Any:
    """JSON where it is, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="jaxtrade exchange", description=exchange.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser(
        "serve", help="serve until interrupted", description="Serve until interrupted."
    )
    serve.add_argument("--venue", choices=VENUES, default="bybit", help="whose protocol to speak")
    serve.add_argument(
        "--frame", type=Path, metavar="FILE", help="OHLCV bars; without, seeded minutes"
    )
    serve.add_argument(
        "--symbols",
        default="BTCUSDT",
        metavar="NAME[,NAME ...]",
        help="what is listed, as in BTCUSDT,ETHUSDT (default BTCUSDT); each has seeded prices",
    )
    serve.add_argument("--port", type=int, default=0, help="default: a free one")
    serve.add_argument(
        "--speed", type=float, default=1.0, help="exchange seconds per real second (default 1)"
    )
    serve.add_argument(
        "--initial-balance", type=_amount, default=Decimal(10_000), help="default 10000"
    )
    serve.add_argument(
        "--history", type=int, default=1000, help="bars before the opening (default 1000)"
    )
    serve.add_argument(
        "--anchor",
        choices=("now", "source"),
        default="now",
        help="open at the present time (default) or at the bars' own",
    )
    serve.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar='"ROUTE ACTION [COUNT|all] [NAME=VALUE ...]"',
        help="what goes wrong, as in 'order/create accept_then_drop 1 skip=2'; may be repeated "
        "(docs/live.md)",
    )
    serve.add_argument("--seed", type=int, default=0, help="of prices, ids and keys (default 0)")
    return parser


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("nan")
    if not amount > 0 or not amount.is_finite():
        raise argparse.ArgumentTypeError(f"expected an amount > 0, got {text!r}")
    return amount

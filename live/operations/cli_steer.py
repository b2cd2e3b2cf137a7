"""Commands to a daemon, looks at it, and the repair of what it left."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from live.operations.cli_options import SUCCESS, file_of, overrides_of


def command(given: argparse.Namespace) -> int:
    """Have a command carried out and say what became of it."""
    from live.operations.control import Place, give

    options = {
        name: getattr(given, name)
        for name in ("reset_baseline", "symbol")
        if getattr(given, name, None)
    }
    place = Place.of(file_of(given), overrides_of(given))
    answer = give(place, given.command, given.reason, options)
    if given.json:
        print(json.dumps(answer, default=str))
    else:
        word = "accepted" if answer.get("accepted") else "taken, not confirmed"
        detail = answer.get("detail")
        print(f"{given.command}: {word} ({answer['via']})" + (f": {detail}" if detail else ""))
    return SUCCESS


def status(given: argparse.Namespace) -> int:
    """State, position, orders and last decisions of a daemon, or of the journal it left."""
    from live.operations.control import Place
    from live.operations.control import status as found_of

    found = found_of(Place.of(file_of(given), overrides_of(given)), given.symbol)
    if given.json:
        print(json.dumps(found, default=str))
    else:
        print("\n".join(status_lines(found)))
    return SUCCESS


def status_lines(found: dict[str, Any], indent: str = "") -> Iterator[str]:
    """Nested values as indented lines; windows of an observation are left out."""
    for name, value in found.items():
        if name in ("observation", "equity_history") or value in (None, [], {}, ""):
            continue
        if isinstance(value, dict):
            yield f"{indent}{name}"
            yield from status_lines(value, indent + "  ")
        elif isinstance(value, list | tuple) and all(isinstance(item, dict) for item in value):
            for item in value:
                yield f"{indent}{name}"
                yield from status_lines(item, indent + "  ")
        elif isinstance(value, list | tuple):
            yield f"{indent}{name:<20} {', '.join(map(str, value))}"
        else:
            yield f"{indent}{name:<20} {value}"


def restore(given: argparse.Namespace) -> int:
    """Put the copy that every start takes in the place of a damaged journal."""
    from live.operations.control import Place, restored

    place = Place.of(file_of(given), overrides_of(given))
    path: Path | None = given.journal
    if path is None:
        if len(place.journals) != 1:
            names = ", ".join(one.name for one in place.journals) or "none"
            raise ValueError(f"restore: name the journal; {place.folder} holds {names}")
        (path,) = place.journals
    aside = restored(path, given.reason)
    said = f"restored {path} from its copy; the damaged one is {aside}"
    answer = {"restored": str(path), "damaged": str(aside)}
    print(json.dumps(answer) if given.json else said)
    return SUCCESS

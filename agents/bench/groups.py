"""Which tables the results of each group become."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

from agents.bench.tables import Columns, Row, Table, count, extent, gigabytes, number, rate, text

YARDSTICK = ("cartpole", "random")


def tables(result: dict[str, Any]) -> Iterator[Table]:
    """All tables of one device, in the order of the page."""
    for name, build in _GROUPS.items():
        if name in result:
            yield from build(result[name])


_STEPS: Columns = {
    "env-steps/s (median)": rate("steps_per_second"),
    "range": extent("steps_per_second", count),
}
_COMPILE: Columns = {
    "compile s": number("compile_seconds", ".1f"),
    "program MB": number("program_megabytes", ",.0f"),
}


# Groups -----------------------------------------------------------------------------------------


def _memory(group: dict[str, Any]) -> Iterator[Table]:
    columns: Columns = {
        "<what": text("what"),
        "devices": number("devices"),
        "GB/s (median)": number("bytes_per_second", ".1f", 1e-9),
        "range": extent("bytes_per_second", gigabytes),
    }
    about = "A compiled program over 256 MB it owns, 32 passes. " + _source(group)
    yield Table.of("Memory", about, columns, group["rows"])


def _environments(group: dict[str, Any]) -> Iterator[Table]:
    steps = [row for row in group["rows"] if "steps_per_second" in row]
    extra = _traffic_of(group)
    yardstick = _mean(
        row["steps_per_second"]["median"]
        for row in steps
        if (row["what"], row["loop"]) == YARDSTICK
    )

    def ratio(row: Row) -> str:
        return f"{row['steps_per_second']['median'] / yardstick:.2f}" if yardstick else ""

    columns: Columns = {
        "<observation": text("what"),
        "<loop": text("loop"),
        "environments": number("lanes"),
        "devices": number("devices"),
        **_STEPS,
        "x CartPole": ratio,
        **extra,
        **_COMPILE,
    }
    about = f"{_about_environments(group)} {_source(group)}"
    main = [row for row in steps if "table" not in row]
    yield Table.of("Environment steps", about, columns, main)
    by_devices = [row for row in steps if row.get("table") == "devices"]
    if by_devices:
        columns = {
            "<observation": text("what"),
            "devices": number("devices"),
            **_STEPS,
            "x one device": _over_first(by_devices),
            **extra,
        }
        about = (
            f"The loop `sharded` with {by_devices[0]['lanes']:,} environments in all, on ever more "
            "devices."
        )
        yield Table.of("Environment steps by number of devices", about, columns, by_devices)


def _about_environments(group: dict[str, Any]) -> str:
    sizes = {row["what"]: row["observation_bytes"] for row in group["rows"] if _writes(row)}
    if "observation_bytes" in group:
        sizes = {"dict": group["observation_bytes"]}
    parts = [
        f"{group['minutes']:,} synthetic minutes ({group['execution_bars']:,} execution bars).",
        "Bytes of one observation: "
        + ", ".join(f"{name} {size:,}" for name, size in sizes.items())
        + ".",
    ]
    if "state_bytes" in group:
        parts.append(f"State of one environment: {group['state_bytes']} bytes.")
    fills = _fills(group["rows"])
    if "memory_fill_gigabytes_per_second" in group:
        fills = {None: group["memory_fill_gigabytes_per_second"] * 1e9}
    named = [
        gigabytes(rate) + ("" if devices is None else f" ({devices})")
        for devices, rate in fills.items()
    ]
    parts.append(f"Plain memory fill here, GB/s (devices): {', '.join(named)}.")
    return " ".join([*parts, _peak(group)])


def _writes(row: Row) -> bool:
    return row.get("observation_bytes") is not None


def _fills(rows: list[Row]) -> dict[Any, float]:
    """Devices -> bytes per second of a plain fill, the mean over its measurements."""
    found: dict[Any, list[float]] = {}
    for row in rows:
        if "bytes_per_second" in row:
            found.setdefault(row["devices"], []).append(row["bytes_per_second"]["median"])
    return {devices: statistics.mean(rates) for devices, rates in found.items()}


def _traffic_of(group: dict[str, Any]) -> Columns:
    """Columns of the bytes of windows that a row writes, and of that over the plain fill."""
    fills = _fills(group["rows"])

    def written(row: Row) -> float | None:
        size = row.get("observation_bytes")
        return None if size is None else row["steps_per_second"]["median"] * size

    def rate(row: Row) -> str:
        found = written(row)
        return "" if found is None else gigabytes(found)

    def share(row: Row) -> str:
        found, fill = written(row), fills.get(row.get("devices"))
        return "" if found is None or not fill else f"{found / fill:.0%}"

    return {"GB/s": rate, "of fill": share}


def _over_first(rows: list[Row]) -> Callable[[Row], str]:
    """A rate over that of the same environment in the first of its rows."""
    first: dict[str, float] = {}
    for row in rows:
        first.setdefault(row["what"], row["steps_per_second"]["median"])
    return lambda row: f"{row['steps_per_second']['median'] / first[row['what']]:.2f}"


def _decisions(group: dict[str, Any]) -> Iterator[Table]:
    columns: Columns = {
        "<what": text("what"),
        "bars exposed": number("bars"),
        "(bar, action) pairs/s (median)": rate("pairs_per_second"),
        "range": extent("pairs_per_second", count),
        "compile s": number("compile_seconds", ".1f"),
    }
    about = f"{group['setting']} {_source(group)}"
    yield Table.of("One-step decisions", about, columns, group["rows"])


def _mean(values: Iterator[float]) -> float | None:
    found = list(values)
    return statistics.mean(found) if found else None


def _learner(group: dict[str, Any]) -> Iterator[Table]:
    by_table: dict[str, list[Row]] = {}
    for row in group["rows"]:
        by_table.setdefault(row.get("table", "learners"), []).append(row)
    about = (
        "On the synthetic market with costs: collecting, learning, resets and everything between, "
        "evaluation excluded. A decision is an environment step or a whole one-step episode."
    )
    if "peak_megabytes" in group and not any("peak_megabytes" in row for row in group["rows"]):
        about += f" {_peak(group)}"
    if "learners" in by_table:
        rows = by_table["learners"]
        about = f"{about} {_source(group)}"
        yield Table.of("Learners, end to end", about, _LEARNERS, rows)
        beside = [row for row in rows if "products_seconds" in row]
        if beside:
            about = (
                "The matrix products of one update, as often as it runs them and with nothing else,"
                " timed in turn with the update in the same process."
            )
            yield Table.of("Learners beside their matrix products", about, _PRODUCTS, beside)
    if "lanes" in by_table:
        about = "The steps of an update are kept constant, so that rollouts are shorter with more."
        title = "Learners by number of environments"
        yield Table.of(title, about, _BY_LANES, by_table["lanes"])
    if "seeds" in by_table:
        about = "The same learner with as many seeds side by side in one program; decisions of all."
        columns = {
            "<learner": text("what"),
            "seeds": number("seeds"),
            **_DECISIONS,
            "x one seed": _over_first(by_table["seeds"]),
            **_COST,
        }
        yield Table.of("Learners by number of seeds", about, columns, by_table["seeds"])


_DECISIONS: Columns = {
    "decisions/s (median)": rate("steps_per_second"),
    "range": extent("steps_per_second", count),
}
_COST: Columns = {
    "update s": number("seconds_per_update", ".3f"),
    "compile s": number("compile_seconds", ".1f"),
    "from cache s": number("cached_compile_seconds", ".1f"),
    "program MB": number("program_megabytes", ",.0f"),
    "peak MB": number("peak_megabytes", ",.0f"),
    "device peak MB": number("device_peak_megabytes", ",.0f"),
}
_LEARNERS: Columns = {
    "<learner": text("what"),
    **_DECISIONS,
    "per update": number("steps_per_update"),
    "environments": number("num_envs"),
    "epochs": number("epochs"),
    "parameters": number("parameters"),
    "buffer B/step": number("buffer_bytes_per_step", ".0f"),
    **_COST,
}
_PRODUCTS: Columns = {
    "<learner": text("what"),
    "update s": number("seconds_per_update", ".4f"),
    "products s": number("products_seconds", ".4f"),
    "update / products": number("update_over_products", ".2f"),
    "range": extent("update_over_products", lambda value: f"{value:.2f}"),
    "products GFLOP": number("products_gigaflop", ",.1f"),
    "GFLOP in open loops": number("uncertain_products_gigaflop", ",.1f"),
}
_BY_LANES: Columns = {
    "<learner": text("what"),
    "environments": number("num_envs"),
    "steps": number("rollout_steps"),
    **_DECISIONS,
    **_COST,
}


def _adapters(group: dict[str, Any]) -> Iterator[Table]:
    columns: Columns = {
        "<adapter": text("what"),
        "lanes": number("lanes"),
        **_STEPS,
        "x one lane": _over_one(group["rows"]),
    }
    about = (
        "A Python loop that steps through the adapter with random actions: the four-frame "
        "observation as one vector, resets included, NumPy in and out. "
    )
    about += " ".join(part for part in (group.get("note"), _source(group)) if part)
    yield Table.of("Adapters", about, columns, group["rows"])


def _over_one(rows: list[Row]) -> Callable[[Row], str]:
    single = rows[0]["steps_per_second"]["median"]
    return lambda row: f"{row['steps_per_second']['median'] / single:.1f}"


def _startup(group: dict[str, Any]) -> Iterator[Table]:
    columns: Columns = {
        "<what": text("what"),
        "seconds (median)": number("seconds", ".3f"),
        "range": extent("seconds", lambda value: f"{value:.3f}"),
    }
    yield Table.of("Start-up", _source(group), columns, group["rows"])


def _source(group: dict[str, Any]) -> str:
    commit = f" at commit `{group['commit']}`" if group["commit"] else ""
    repeats = f"; repeats: {group['repeats']}" if "repeats" in group else ""
    return f"Measured {group['date']}{commit}{repeats}."


def _peak(group: dict[str, Any]) -> str:
    device = group["device_peak_megabytes"]
    beside = "" if device is None else f", on the accelerator {device:,.0f} MB"
    return f"Peak memory of the process {group['peak_megabytes']:,.0f} MB{beside}."


_GROUPS: dict[str, Callable[[dict[str, Any]], Iterator[Table]]] = {
    "memory": _memory,
    "environments": _environments,
    "decisions": _decisions,
    "learner": _learner,
    "adapters": _adapters,
    "startup": _startup,
}

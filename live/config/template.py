"""The configuration as text: the file that ``init`` writes, the merged result, the reference."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from live.config import DEFAULT_ENVIRONMENT, ENVIRONMENTS, SECTIONS, TABLES, LiveConfig, plain
from live.fields import Table, rule_of

_HEAD = """\
# Configuration of `jaxtrade live run --config {name}`.
#
# Lines that start with "# " and a field show its default. Keys never belong into this file: they
# are read from {secrets}, or from a file given by --credentials.
# Each field can also be set by a variable, as in JAXTRADE__RUNNER__MODE=demo.
"""
# What `init` writes as given rather than as a default.
_GIVEN: Mapping[str, tuple[str, ...]] = {
    "runner": ("mode", "strategy_id"),
    "venue": ("name",),
    "env": ("symbol", "time_frames", "window_sizes", "execute_on", "leverage", "demo"),
}
# And with another value than the default: (value, why).
_CHOSEN: Mapping[tuple[str, str], tuple[Any, str]] = {
    ("env", "equity_buffer"): (0.02, "kept back, so that an order of everything is still paid for"),
    ("server", "enabled"): (True, "the page, on this machine only; tokens are in the state folder"),
}


def toml_value(value: Any) -> str:
    """A value as TOML spells it; nothing is the text none."""
    value = plain(value)
    if value is None:
        return '"none"'
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {toml_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def kind_of(section: str, environment: str = DEFAULT_ENVIRONMENT) -> type[Table]:
    """The dataclass of a table."""
    return ENVIRONMENTS[environment] if section == "env" else TABLES[section]


def initial(
    environment: str,
    name: str,
    policy: str | None = None,
    trained: Mapping[str, Any] | None = None,
) -> str:
    """The text of a new configuration file.

    Args:
      environment: of `ENVIRONMENTS`. name: of the file. policy: bundle to trade.
      trained: fields of the environment as the policy knows them.
    """
    known = trained or {}
    constants = ENVIRONMENTS[environment].constants
    secrets = " and ".join(names[0] for names in constants.secrets.values())
    lines = [_HEAD.format(name=name, secrets=secrets)]
    for section in SECTIONS:
        kind = kind_of(section, environment)
        lines += [f"# {_purpose(kind)}", f"[{section}]"]
        if section == "env":
            lines.append(f"name = {json.dumps(environment)}")
        if section == "policy" and policy is not None:
            lines.append(f"bundle = {json.dumps(policy)}")
        tables = []
        for field_name, field in kind.table_fields().items():
            default = plain(field.default)
            if section == "env" and field_name in known:
                lines.append(f"{field_name} = {toml_value(known[field_name])}  # as trained")
                continue
            if isinstance(default, dict):
                tables.append(f"# [{section}.{field_name}]")
                tables += [f"# {name} = {toml_value(value)}" for name, value in default.items()]
                continue
            if (section, field_name) in _CHOSEN:
                value, why = _CHOSEN[section, field_name]
                lines.append(f"{field_name} = {toml_value(value)}  # {why}")
                continue
            given = field_name in _GIVEN.get(section, ())
            lines.append(
                f"{'' if given else '# '}{field_name} = {toml_value(field.default)}"
                f"  # {rule_of(field).says}"
            )
        lines += [*tables, ""]
    return "\n".join(lines)


def merged(config: LiveConfig, origins: Mapping[tuple[str, str], str]) -> str:
    """The configuration in force as TOML; what was given says from where. Secrets are masked."""
    lines = []
    for section, values in config.to_dict().items():
        lines.append(f"[{section}]")
        for name, value in values.items():
            origin = origins.get((section, name))
            if (section, name) == ("policy", "bundle") and value is not None:
                value = str(Path(value).absolute())  # the text may be kept in any folder
            lines.append(f"{name} = {toml_value(value)}" + (f"  # {origin}" if origin else ""))
        lines.append("")
    return "\n".join(lines).rstrip()


def reference(environment: str = DEFAULT_ENVIRONMENT) -> dict[str, dict[str, dict[str, Any]]]:
    """Table -> field -> default and what it must be."""
    return {
        section: {
            name: {"default": plain(field.default), "must_be": rule_of(field).says}
            for name, field in kind_of(section, environment).table_fields().items()
        }
        for section in SECTIONS
    }


def _purpose(kind: type[Table]) -> str:
    return (kind.__doc__ or "").partition("\n")[0]

"""Fields of configuration tables: what each accepts, and one message for all that does not fit.

A table is a frozen dataclass derived from `Table`, whose fields are made by functions such as
`number` and `text`.
"""

from live.fields.makers import flag, number, path, rule_of, ruled, text, whole, word
from live.fields.rules import (
    Range,
    Rule,
    free_rule,
    list_rule,
    member_rule,
    number_rule,
    optional_rule,
    parse_value,
    refuse,
    text_rule,
    whole_rule,
    word_rule,
)
from live.fields.tables import ConfigError, Table

__all__ = [
    "ConfigError",
    "Range",
    "Rule",
    "Table",
    "flag",
    "free_rule",
    "list_rule",
    "member_rule",
    "number",
    "number_rule",
    "optional_rule",
    "parse_value",
    "path",
    "refuse",
    "rule_of",
    "ruled",
    "text",
    "text_rule",
    "whole",
    "whole_rule",
    "word",
    "word_rule",
]

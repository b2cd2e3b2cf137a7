"""Keys: where they come from, how they are kept, and how they are kept out of everything written.

A `Secret` shows its name, never its value. Every secret that exists is known to the process-wide
`redact`, which logs, exceptions, pages and notifications pass through.
"""

from live.secrets.private import private_folder, read_private
from live.secrets.redaction import redact, redacted, remember
from live.secrets.secret import Secret
from live.secrets.sources import confirm_account, read_file, read_secrets, refuse_unused
from live.secrets.tokens import Tokens

__all__ = [
    "Secret",
    "Tokens",
    "confirm_account",
    "private_folder",
    "read_file",
    "read_private",
    "read_secrets",
    "redact",
    "redacted",
    "refuse_unused",
    "remember",
]

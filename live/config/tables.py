"""The tables of the daemon's configuration; those of environments are in `environments`."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs

from live.config.constants import SYMBOL
from live.fields import Table, flag, list_rule, number, path, ruled, text, whole, word

MODES = ("paper", "demo", "live")
# Of the times that follow the length d of an execution bar: (share of d, seconds at most).
_BAR_DEADLINE = (1 / 4, 30.0)
_POLICY_TIMEOUT = (1 / 4, 20.0)
_INTENT_TTL = (1 / 10, 5.0)

_NAME = r"[a-z0-9][a-z0-9_-]{0,31}"
_URL = r"https?://[^\s/?#]+(/\S*)?"
_FUNCTION = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"


def loopback(host: str) -> bool:
    """Whether a host name or address is this machine and nothing else."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _of_bar(given: float | None, share_and_most: tuple[float, float], bar_seconds: float) -> float:
    share, most = share_and_most
    return min(bar_seconds * share, most) if given is None else given


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerConfig(Table):
    """How the daemon runs; times in seconds.

    Attributes:
      mode: "paper" trades a local account on public bars, "demo" the venue's demo account, "live"
        real money.
      strategy_id: part of every order's id.
      symbols: what is traded, each with the fields of ``[env]``; empty = the one of ``[env]``.
      state_dir: folder of journal, tokens and logs; None = in the user's state folder.
      bar_delay_seconds: waited after the end of a bar before it is read.
      bar_deadline: until a bar is read and something may be opened, from its end; None = the
        smaller of a quarter bar and 30.
      snapshot_timeout_seconds: of reading position, balance, prices and bars together.
      policy_timeout_seconds: of one decision; None = the smaller of a quarter bar and 20.
      submit_timeout_seconds: of the request that places an order.
      fill_deadline_seconds: until a fill must be confirmed. stop_deadline_seconds: until a position
        must have its stop, or it is flattened.
      intent_ttl_seconds: age from which on an order that opens is not sent any more; None = the
        smaller of a tenth of a bar and 5.
      shutdown_policy: "cancel" cancels what protects nothing, "leave" nothing, "flatten" closes
        what is owned. shutdown_timeout_seconds: of ending so.
      allow_local: a position whose stop dies with the process may be left behind.
      max_steps: bars after which the daemon ends; None = it goes on.
    """

    mode: str = word("paper", *MODES)
    strategy_id: str = text("default", f"lower case text like {_NAME}", _NAME)
    symbols: tuple[str, ...] = ruled(
        (), list_rule("several symbols such as ['BTCUSDT', 'ETHUSDT']", SYMBOL.read)
    )
    state_dir: Path | None = path()
    bar_delay_seconds: float = number(1.0, least=0, most=60)
    bar_deadline: float | None = number(None, optional=True, above=0, most=600)
    snapshot_timeout_seconds: float = number(10.0, above=0, most=600)
    policy_timeout_seconds: float | None = number(None, optional=True, above=0, most=3600)
    submit_timeout_seconds: float = number(8.0, above=0, most=60)
    fill_deadline_seconds: float = number(10.0, above=0, most=600)
    stop_deadline_seconds: float = number(5.0, above=0, most=60)
    intent_ttl_seconds: float | None = number(None, optional=True, above=0, most=600)
    shutdown_policy: str = word("cancel", "cancel", "leave", "flatten")
    shutdown_timeout_seconds: float = number(30.0, above=0, most=3600)
    allow_local: bool = flag(False)
    max_steps: int | None = whole(None, 1, optional=True)

    @property
    def folder(self) -> Path:
        """The state folder in force."""
        if self.state_dir is not None:
            return self.state_dir
        return Path(platformdirs.user_state_dir("jaxtrade", appauthor=False)) / "live"

    def bar_deadline_seconds(self, bar_seconds: float) -> float:
        """Until when a bar of this length must have been read, after its end."""
        return _of_bar(self.bar_deadline, _BAR_DEADLINE, bar_seconds)

    def policy_seconds(self, bar_seconds: float) -> float:
        """How long the policy may take."""
        return _of_bar(self.policy_timeout_seconds, _POLICY_TIMEOUT, bar_seconds)

    def intent_seconds(self, bar_seconds: float) -> float:
        """How old an intent may be when it is sent."""
        return _of_bar(self.intent_ttl_seconds, _INTENT_TTL, bar_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueConfig(Table):
    """Which exchange, and under which address.

    Attributes:
      name: which exchange.
      base_url: of a local exchange server; the venue's own addresses cannot be configured, so that
        no file sends keys elsewhere.
      stream_url: of its private stream; None = as ``base_url`` says.
      request_timeout_seconds: of one request that reads.
    """

    name: str = word("bybit", "bybit")
    base_url: str | None = text(None, "an http(s) address", _URL, optional=True)
    stream_url: str | None = text(None, "a ws(s) address", r"wss?://\S+", optional=True)
    request_timeout_seconds: float = number(5.0, above=0, most=60)

    def problems(self) -> Iterator[str]:
        """Addresses that are not this machine."""
        for name in ("base_url", "stream_url"):
            address = getattr(self, name)
            if address is not None and not loopback(urlsplit(address).hostname or ""):
                yield (
                    f"{name}: only the address of a local exchange server (127.0.0.1) may be "
                    f"given, was {address!r}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileConfig(Table):
    """How often the venue is asked what is true.

    Attributes:
      orders_seconds: between two reads of the open orders. position_seconds: of the position.
      balance_seconds: of the balance. fills_seconds: of the fills.
      absence_min_answers: answers without an order after which it counts as never arrived.
      absence_min_seconds: and between the first and the last of them.
      unknown_alarm_seconds: age of an unknown order that raises the alarm.
      settings_bars: bars between two checks of leverage and modes.
    """

    orders_seconds: float = number(10.0, above=0, most=3600)
    position_seconds: float = number(30.0, above=0, most=3600)
    balance_seconds: float = number(60.0, above=0, most=3600)
    fills_seconds: float = number(60.0, above=0, most=3600)
    absence_min_answers: int = whole(3, 2)
    absence_min_seconds: float = number(15.0, above=0, most=3600)
    unknown_alarm_seconds: float = number(120.0, above=0, most=86400)
    settings_bars: int = whole(60, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockConfig(Table):
    """When the clock is doubted.

    Attributes:
      resync_seconds: between two measurements of the venue's time. warn_ms: offset that warns.
      halt_ms: uncertainty from which on nothing is opened.
      suspend_seconds: jump of the clock that counts as a suspension.
    """

    resync_seconds: float = number(60.0, above=0, most=3600)
    warn_ms: float = number(250.0, above=0)
    halt_ms: float = number(1000.0, above=0)
    suspend_seconds: float = number(2.0, above=0, most=3600)

    def problems(self) -> Iterator[str]:
        """A warning that comes after the halt."""
        if self.warn_ms > self.halt_ms:
            yield f"warn_ms: must not exceed halt_ms ({self.halt_ms:g}), was {self.warn_ms:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalConfig(Table):
    """Where the journal is kept.

    Attributes:
      path: file of the journal; None = one per account in the state folder.
      commit_warn_ms: a slower commit is counted as slow.
      min_free_mib: with less free disk nothing is opened. warn_free_gib: with less it is said.
    """

    path: Path | None = path()
    commit_warn_ms: float = number(250.0, above=0)
    min_free_mib: float = number(100.0, least=0)
    warn_free_gib: float = number(1.0, least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateConfig(Table):
    """Parts of the venue's request limits.

    Attributes:
      reserve_fraction: part that is kept for what does not open. share_fraction: part that this
        daemon may use at all.
    """

    reserve_fraction: float = number(0.2, least=0, below=1)
    share_fraction: float = number(1.0, above=0, most=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig(Table):
    """The operations page.

    Attributes:
      enabled: the page is served. host: this machine unless a certificate is configured.
      port: 0 = any free one. certificate: PEM file; needs
        ``certificate_key``. certificate_key: PEM file of the certificate's key.
    """

    enabled: bool = flag(False)
    host: str = text("127.0.0.1", "a host name or address", r"[A-Za-z0-9_.:\[\]-]+")
    port: int = whole(8477, 0, 65535)
    certificate: Path | None = path()
    certificate_key: Path | None = path()

    def problems(self) -> Iterator[str]:
        """Half a certificate, or a page that other machines could read in clear."""
        if (self.certificate is None) != (self.certificate_key is None):
            yield "certificate: needs certificate_key beside it; give both or none"
        elif self.certificate is None and not loopback(self.host):
            yield (
                f"host: without a certificate only this machine may be served, was {self.host!r}; "
                "use '127.0.0.1', or give certificate and certificate_key"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyConfig(Table):
    """Who is told what happens; addresses are treated as secrets.

    Attributes:
      webhook_url: gets a JSON body per message.
      telegram_chat_id: gets the messages; needs TELEGRAM_BOT_TOKEN.
      ping_url: called once a minute while the daemon lives.
    """

    webhook_url: str | None = text(
        None, "an https address (http on this machine)", _URL, optional=True, secret=True
    )
    telegram_chat_id: str | None = text(
        None, "a chat id", r"-?[0-9]{1,20}|@\w{1,64}", optional=True
    )
    ping_url: str | None = text(
        None, "an https address (http on this machine)", _URL, optional=True, secret=True
    )

    def problems(self) -> Iterator[str]:
        """Addresses that would be called in clear."""
        for name in ("webhook_url", "ping_url"):
            parts = urlsplit(getattr(self, name) or "")
            if parts.scheme == "http" and not loopback(parts.hostname or ""):
                yield f"{name}: must start with https:// unless it is on this machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyConfig(Table):
    """What decides; one of the first three.

    Attributes:
      bundle: file of a trained policy; in the configuration file relative to that file's folder,
        in variables and options to the working directory.
      factory: "module:function" that makes a policy.
      baseline: name of a rule. fallback_action: what a late or failing policy does.
    """

    bundle: Path | None = path()
    factory: str | None = text(None, "module:function", _FUNCTION, optional=True)
    baseline: str | None = text(None, "the name of a baseline", r"[A-Za-z_]\w*", optional=True)
    fallback_action: str = word("hold", "hold")

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the fields that are given."""
        names = ("bundle", "factory", "baseline")
        return tuple(name for name in names if getattr(self, name) is not None)

    def problems(self) -> Iterator[str]:
        """Two policies at once."""
        if len(self.sources) > 1:
            yield f"{' and '.join(self.sources)}: give one of them, not {len(self.sources)}"

"""One way to read an environment: a table of keys a part, and one reader for all of them.

Each part's `settings.py` says in a table which keys it reads and how; here is how any key is read,
checked, refused and shown. Nothing but those modules looks at an environment.
"""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.features import FEATURES, INDEX
from nimbusguard.telemetry.logs import redact

Read = Callable[[str], Any]
"""Text to value; raises ValueError with the rule that was broken."""
_NEVER_ZERO: Final = frozenset(
    {"cpu_utilization", "memory_utilization", "request_rate", "pod_count"}
)
"""Without these there is nothing to decide on; an idle service would be read into an outage."""


class InvalidSetting(InvalidRequest):
    """A setting has a value that its rule does not allow; the message names both."""


class Key(NamedTuple):
    """How one setting is read, and what it is for."""

    name: str
    read: Read
    readers: tuple[str, ...] = ()
    """The packages whose code reads it; empty while no code does."""
    meaning: str = ""
    prefix: str = ""
    """What its name begins with and the attribute's does not."""

    @property
    def field(self) -> str:
        """The attribute of the settings."""
        return self.name.removeprefix(self.prefix).lower()


def read_keys(environ: Mapping[str, str], keys: Sequence[Key]) -> dict[str, Any]:
    """What an environment says of some keys, by attribute; one that is unset or blank is left out.

    Raises:
        InvalidSetting: A value breaks its rule; the message names key, rule and value.
    """
    values: dict[str, Any] = {}
    for key in keys:
        text = environ.get(key.name, "").strip()
        if not text:
            continue
        try:
            values[key.field] = key.read(text)
        except ValueError as exc:
            message = f"{key.name}: expected {exc}, got {redact(text)!r}"
            raise InvalidSetting(message) from exc
    return values


def refuse_unknown(
    environ: Mapping[str, str],
    prefix: str,
    known: Iterable[str],
    *,
    ours: Callable[[str], bool] = lambda key: True,  # noqa: ARG005 - named for the caller
) -> None:
    """Refuse a key that nobody reads: a misspelt limit must not be a silent default.

    Args:
        environ: The environment.
        prefix: What keys of ours begin with.
        known: Those that somebody reads.
        ours: Whether a key with the prefix, that nobody reads, was meant for us.

    Raises:
        InvalidSetting: There is one.
    """
    names = frozenset(known)
    for key in sorted(environ):
        if key.startswith(prefix) and key not in names and ours(key):
            message = f"{key}: no such setting; expected one of {', '.join(sorted(names))}"
            raise InvalidSetting(message)


def example(title: str, keys: Sequence[Key], defaults: Any) -> str:
    """A block of `.env.example`: keys with their meaning and their default.

    Args:
        title: Its first line.
        keys: In their order.
        defaults: The dataclass that they are read into, with nothing set. A key without a meaning
            of its own has that which stands below its field.
    """
    told = _told(type(defaults))
    blocks = [f"# --- {title}"]
    for key in keys:
        meaning = key.meaning or told[key.field].removeprefix(f"`{key.name}`. ")
        lines = "\n".join(textwrap.wrap(meaning, 98, initial_indent="# ", subsequent_indent="# "))
        blocks.append(f"{lines}\n{key.name}={_spell(getattr(defaults, key.field))}")
    return "\n\n".join(blocks)


def _told(settings: type) -> dict[str, str]:
    """What stands below each field of a class, as one line."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(settings))).body
    assert isinstance(tree, ast.ClassDef)  # noqa: S101 - that is what the source of a class is
    found = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            text = ast.literal_eval(below.value)
            found[ast.unparse(field.target)] = " ".join(str(text).split())
    return found


def _spell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def whole(low: int = 1, high: int | None = None) -> Read:
    """A whole number between two bounds, or of at least the first."""
    rule = f"a whole number of at least {low}"
    if high is not None:
        rule = f"a whole number from {low} to {high}"

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(rule) from None
        if value < low or (high is not None and value > high):
            raise ValueError(rule)
        return value

    return read


def number(low: float, high: float) -> Read:
    """A number between two bounds, both allowed."""
    rule = f"a number from {low:g} to {high:g}"

    def read(text: str) -> float:
        value = _float(text)
        if not low <= value <= high:  # NaN compares false
            raise ValueError(rule)
        return value

    return read


def positive(text: str) -> float:
    """A finite number above 0."""
    value = _float(text)
    if not 0.0 < value < math.inf:
        rule = "a finite number above 0"
        raise ValueError(rule)
    return value


def truth(text: str) -> bool:
    """Yes or no, in the words that people use."""
    words = {"true": True, "1": True, "yes": True, "on": True}
    words |= {"false": False, "0": False, "no": False, "off": False}
    if text.lower() not in words:
        rule = f"one of {', '.join(words)}"
        raise ValueError(rule)
    return words[text.lower()]


def choice(*choices: str) -> Read:
    """One of several words, in any case."""

    def read(text: str) -> str:
        if text.lower() not in choices:
            rule = f"one of {', '.join(choices)}"
            raise ValueError(rule)
        return text.lower()

    return read


def names(text: str) -> tuple[str, ...]:
    """Words between commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def web_address(text: str) -> str:
    """A base URL, without the slash at its end."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        rule = "a URL like http://host:9090"
        raise ValueError(rule)
    return text.rstrip("/")


def absent_as_zero(text: str) -> tuple[str, ...]:
    """Features whose absence may be declared to mean 0."""
    found = names(text)
    if any(name not in INDEX or name in _NEVER_ZERO for name in found):
        allowed = [feature.name for feature in FEATURES if feature.name not in _NEVER_ZERO]
        rule = f"features out of {', '.join(allowed)}"
        raise ValueError(rule)
    return found


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan

"""The names of a workload, and the one query for its features: nothing unchecked reaches PromQL."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from nimbusguard.contract.errors import InvalidRequest

PREFIX: Final = "nimbusguard:"
"""What the eleven recorded series begin with, and no other."""
MAX_NAMESPACE_LENGTH: Final = 63
MAX_NAME_LENGTH: Final = 253
WorkloadKey = tuple[str, str]
"""Namespace and name of a workload."""

_LABEL: Final = "[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_NAMESPACE: Final = re.compile(_LABEL)
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_MAX_SHOWN: Final = 80


def workload_query(namespace: str, deployment: str, *, max_age_s: int | None = None) -> str:
    """The one instant query for all features of a workload.

    Args:
        namespace: Its namespace.
        deployment: Its name; that of a StatefulSet or DaemonSet is asked for alike.
        max_age_s: Values recorded longer ago count as absent. Prometheus itself returns a series
            whose rule no longer runs for five minutes more (`--query.lookback-delta`).

    Raises:
        InvalidRequest: A name that Kubernetes would not allow; nothing of it reaches PromQL.
    """
    check_workload(namespace, deployment, "query")
    return _selection(f'namespace="{namespace}", workload="{deployment}"', max_age_s)


def workloads_query(workloads: Iterable[WorkloadKey], *, max_age_s: int | None = None) -> str:
    """One instant query for all features of many workloads, and of no others.

    Args:
        workloads: Namespace and name of each, at least one.
        max_age_s: As for `workload_query`.

    Raises:
        InvalidRequest: A name that Kubernetes would not allow, or no workload at all.
    """
    by_namespace: dict[str, set[str]] = {}
    for namespace, name in workloads:
        check_workload(namespace, name, "query")
        by_namespace.setdefault(namespace, set()).add(name)
    if not by_namespace:
        message = "query: expected at least one workload, got none"
        raise InvalidRequest(message)
    return " or ".join(
        _selection(
            f'namespace="{namespace}", workload=~"{"|".join(map(_escaped, sorted(names)))}"',
            max_age_s,
        )
        for namespace, names in sorted(by_namespace.items())
    )


def check_workload(namespace: object, deployment: object, where: str) -> None:
    """Refuse names that Kubernetes would not allow.

    A namespace is a DNS-1123 label. A Deployment, StatefulSet or DaemonSet is named by a DNS-1123
    subdomain, labels joined by dots, which may be longer.

    Raises:
        InvalidRequest: A name is no string, too long, or holds anything else.

    Source: Kubernetes documentation, "Object Names and IDs".
    """
    _check_name(namespace, _NAMESPACE, MAX_NAMESPACE_LENGTH, f"{where}: workload.namespace")
    _check_name(deployment, _NAME, MAX_NAME_LENGTH, f"{where}: workload.deployment")


def _check_name(name: object, pattern: re.Pattern[str], limit: int, where: str) -> None:
    if isinstance(name, str) and len(name) <= limit and pattern.fullmatch(name):
        return
    dots = "" if pattern is _NAMESPACE else ", '.'"
    got = repr(name[:_MAX_SHOWN]) if isinstance(name, str) else type(name).__name__
    message = (
        f"{where}: expected a DNS-1123 name of at most {limit} characters (a-z, 0-9, '-'{dots}; "
        f"first and last a letter or digit), got {got}"
    )
    raise InvalidRequest(message)


def _escaped(name: str) -> str:
    """A checked name in a regular expression in a quoted string: the dot is escaped twice."""
    return name.replace(".", r"\\.")


def _selection(labels: str, max_age_s: int | None) -> str:
    selector = f'{{__name__=~"{PREFIX}.+", {labels}}}'
    if max_age_s is None:
        return selector
    # Both sides: last_over_time alone would bring back a series that has just become absent.
    recent = f"last_over_time({selector}[{max_age_s}s])"
    return f"({selector} and on (__name__, namespace, workload) {recent})"

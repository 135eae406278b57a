"""Who is who among the processes of a Ray cluster."""

import pytest

from bench.__main__ import MODEL_FILE
from bench.replicas import application, cluster_environ, descendants, role_of


@pytest.mark.parametrize(
    ("command_line", "role"),
    [
        (b"ray::ServeReplica:nimbusguard-predictor:NimbusGuardPredictor", "replicas"),
        (b"/opt/ray/haproxy\0-f\0haproxy.cfg\0", "proxy"),
        (b"ray::ServeController.listen_for_change", "daemons"),
        (b"/opt/ray/raylet\0--head\0", "daemons"),
        (b"", "daemons"),
    ],
)
def test_a_command_line_tells_what_a_process_of_the_cluster_does(
    command_line: bytes, role: str
) -> None:
    """Ray names its workers; HAProxy is a program of its own; an ended process has no name."""
    assert role_of(command_line) == role


def test_everything_below_a_process_belongs_to_it_and_nothing_else() -> None:
    """Children of children count, brothers do not."""
    parents = {2: 1, 3: 1, 4: 2, 5: 4, 6: 3}

    assert sorted(descendants(2, parents)) == [2, 4, 5]


@pytest.mark.parametrize("replicas", [1, 2])
def test_an_application_has_exactly_the_replicas_that_are_measured(replicas: int) -> None:
    """The minimum is the maximum, so nothing scales while it is timed."""
    spec = application(replicas, "127.0.0.1:6379", cluster_environ([1, 2]), MODEL_FILE)
    environ = dict(spec.environ)

    assert environ["NIMBUSGUARD_RAY_MIN_REPLICAS"] == str(replicas)
    assert environ["NIMBUSGUARD_RAY_MAX_REPLICAS"] == str(replicas)
    assert environ["RAY_ADDRESS"] == "127.0.0.1:6379"
    assert f"--model_dir={MODEL_FILE.parent}" in spec.arguments
    assert f"--http_port={spec.port}" in spec.arguments

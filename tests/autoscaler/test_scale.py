"""Replicas through the scale subresource, and who else writes them."""

from __future__ import annotations

from typing import Any

import pytest

from autoscaler.kube import Conflict, KubeApi
from autoscaler.policy_spec import Target
from autoscaler.scale import Scaler
from autoscaler.writers import other_writer, read_writers
from nimbusguard.contract.errors import NotFound, Unavailable
from tests.autoscaler.harness import policy
from tests.standin.kube_api import Fault, StandIn


async def test_replicas_are_read_and_written(api: KubeApi, cluster: StandIn) -> None:
    """Desired and created, and then the new number."""
    cluster.deployment("web", 4)
    scaler = Scaler(api)

    scale = await scaler.read(policy())
    after = await scaler.write(scale, 6)

    assert (scale.desired, scale.created) == (4, 4)
    assert (after.desired, cluster.replicas("web")) == (6, 6)


async def test_zero_replicas_are_zero(api: KubeApi, cluster: StandIn) -> None:
    """The API server leaves the field out then."""
    cluster.deployment("web", 0)

    assert (await Scaler(api).read(policy())).desired == 0


async def test_nobody_is_overwritten(api: KubeApi, cluster: StandIn) -> None:
    """Who scaled between reading and writing wins."""
    cluster.deployment("web", 4)
    scaler = Scaler(api)
    scale = await scaler.read(policy())
    cluster.deployment("web", 9)

    with pytest.raises(Conflict):
        await scaler.write(scale, 5)

    assert cluster.replicas("web") == 9


async def test_any_kind_with_a_scale_can_be_scaled(api: KubeApi, cluster: StandIn) -> None:
    """Its name in paths is asked for once."""
    game = policy(target=Target(api_version="example.io/v1", kind="GameServer", name="duel"))
    cluster.put(
        "example.io",
        "gameservers",
        {"metadata": {"namespace": "shop", "name": "duel"}, "spec": {"replicas": 2}},
    )
    scaler = Scaler(api)

    assert (await scaler.read(game)).desired == 2
    assert (await scaler.read(game)).desired == 2


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Target(name="absent"), "absent"),
        (Target(kind="CronTab", name="x"), "expected a kind of apps/v1, got CronTab"),
        (Target(api_version="v1", kind="Node", name="x"), "expected a kind of v1, got Node"),
        (Target(api_version="no.io/v1", kind="X", name="x"), "no such path"),
    ],
)
async def test_a_target_that_is_not_there_is_not_found(
    api: KubeApi, target: Target, message: str
) -> None:
    """Neither object nor kind nor group."""
    with pytest.raises(NotFound, match=message):
        await Scaler(api).read(policy(target=target))


async def test_an_answer_that_is_no_scale_is_refused() -> None:
    """Nothing is scaled on it."""

    class Odd:
        async def get(self, path: str, **query: str) -> dict[str, Any]:
            return {"spec": {"replicas": "3"}}

    with pytest.raises(Unavailable, match=r"expected spec\.replicas"):
        await Scaler(Odd()).read(policy())  # type: ignore[arg-type]


async def test_other_writers_are_seen(api: KubeApi, cluster: StandIn) -> None:
    """An HPA by its own name, a ScaledObject by the HPA that it owns."""
    scaled_object = {"kind": "ScaledObject", "name": "keda-api"}
    release = {"kind": "HelmRelease", "name": "shop"}
    for name, owners in (("web", [release]), ("api", [release, scaled_object])):
        cluster.put(
            "autoscaling",
            "horizontalpodautoscalers",
            {
                "metadata": {"namespace": "shop", "name": name, "ownerReferences": owners},
                "spec": {"scaleTargetRef": {"kind": "Deployment", "name": name}},
            },
        )

    for namespaces in ((), ("shop",), ("other", "shop")):
        writers = await read_writers(api, namespaces)
        assert other_writer(writers, policy("web")) == "HorizontalPodAutoscaler/web"
        assert other_writer(writers, policy("api")) == "ScaledObject/keda-api"
        assert other_writer(writers, policy("free")) is None
    assert await read_writers(api, ("other",)) == {}


async def test_a_scaled_object_without_an_hpa_is_a_writer_too(
    api: KubeApi, cluster: StandIn
) -> None:
    """Paused or just made, it has none yet; a kind that it does not name is a Deployment."""
    targets = {"web": {"name": "web"}, "db": {"kind": "StatefulSet", "name": "db"}}
    for name, target in targets.items():
        body = {"metadata": {"namespace": "shop", "name": name}, "spec": {"scaleTargetRef": target}}
        cluster.put("keda.sh", "scaledobjects", body)

    for namespaces in ((), ("other", "shop")):
        writers = await read_writers(api, namespaces)
        assert writers == {
            ("shop", "Deployment", "web"): "ScaledObject/web",
            ("shop", "StatefulSet", "db"): "ScaledObject/db",
        }


async def test_a_cluster_without_keda_has_no_scaled_objects(api: KubeApi, cluster: StandIn) -> None:
    """The API server does not know the kind; any other trouble is no answer."""
    fault = Fault(lambda call: call.group == "keda.sh", 404)
    cluster.faults.append(fault)
    assert await read_writers(api) == {}

    fault.status = 500
    with pytest.raises(Unavailable):
        await read_writers(api)

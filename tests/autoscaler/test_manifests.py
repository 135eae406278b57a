"""The operator's manifests say what its code does: kind, rights, settings."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.policy_spec import GROUP, KIND, PLURAL, VERSION, Mode, spec_of
from autoscaler.settings import operator_settings
from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.settings import from_environ
from tests.autoscaler.test_operator import World, source
from tests.autoscaler.test_status import evaluation, status
from tests.manifests.rendering import render
from tests.manifests.schemas import problems
from tests.standin.kube_api import Call, Fault, StandIn

FOLDER = Path(__file__).parents[2] / "manifests/autoscaler"


class Grant(NamedTuple):
    """One right of the roles."""

    group: str
    resource: str
    verb: str
    namespace: str | None
    """None in every namespace."""
    names: frozenset[str]
    """Any if empty."""


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def document(name: str, kind: str) -> dict[str, Any]:
    return next(one for one in documents(name) if one["kind"] == kind)


def schema() -> dict[str, Any]:
    (version,) = documents("crd.yaml")[0]["spec"]["versions"]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return found


def defaulted(rules: dict[str, Any], value: Any) -> Any:
    """What the API server makes of an object before anybody sees it."""
    if not isinstance(value, dict):
        return value
    filled = dict(value)
    for name, rule in rules.get("properties", {}).items():
        if name not in filled and "default" in rule:
            filled[name] = copy.deepcopy(rule["default"])
        if name in filled:
            filled[name] = defaulted(rule, filled[name])
    return filled


def test_everything_renders_and_fits_its_schema() -> None:
    """By the tool that users have; no unknown field, no wrong type."""
    examples = [documents(f"examples/{path.name}")[0] for path in (FOLDER / "examples").iterdir()]
    checked = render(FOLDER) + [one for one in examples if one["kind"] != KIND]

    assert {one["kind"] for one in checked} >= {"CustomResourceDefinition", "ScaledObject"}
    assert {one["metadata"]["name"]: found for one in checked if (found := problems(one))} == {}


def test_the_kind_has_the_names_that_the_code_uses() -> None:
    """Else nothing would be watched."""
    spec = documents("crd.yaml")[0]["spec"]

    assert (spec["group"], spec["names"]["plural"], spec["names"]["kind"]) == (GROUP, PLURAL, KIND)
    assert [version["name"] for version in spec["versions"]] == [VERSION]
    assert spec["versions"][0]["subresources"] == {"status": {}}


def test_the_schema_has_the_defaults_of_the_code() -> None:
    """An object with a target alone means the same to both."""
    minimal = {"target": {"name": "web"}}
    rules = schema()["properties"]["spec"]

    assert spec_of(defaulted(rules, minimal)) == spec_of(minimal)
    assert rules["properties"]["mode"]["enum"] == [mode.value for mode in Mode]


def of(*good: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([*good, None, "", "x y", True, -1, 0, 7, 1e9, [], {}])


SPECS = st.fixed_dictionaries(
    {"target": st.fixed_dictionaries({"name": of("web", "a.b-1")}, optional={
        "apiVersion": of("apps/v1", "v1"), "kind": of("Deployment", "GameServer")})},
    optional={
        "mode": of("shadow", "advise", "act"),
        "intervalSeconds": of(15, 0.5, 3600),
        "canaryShare": of(0.5, 1, 1.5),
        "scaleDown": st.fixed_dictionaries(
            {}, optional={"stabilizationWindowSeconds": of(0, 300)}
        ),
        "objective": st.fixed_dictionaries({}, optional={"latencySeconds": of(0.2, 5)}),
        "replicas": st.fixed_dictionaries({}, optional={"min": of(1, 2), "max": of(2, 50)}),
        "metrics": st.fixed_dictionaries({}, optional={"workload": of("api")}),
    },
)  # fmt: skip


@given(SPECS)
def test_the_schema_and_the_code_refuse_the_same(spec: dict[str, Any]) -> None:
    """What the API server lets in the operator accepts, and the other way round."""
    filled = defaulted(schema()["properties"]["spec"], spec)

    try:
        jsonschema.validate({"spec": filled}, schema())
        replicas = filled["replicas"]
        allowed = replicas["min"] <= replicas["max"]  # the schema's one rule in CEL
    except jsonschema.ValidationError:
        allowed = False
    try:
        spec_of(filled)
        accepted = True
    except InvalidRequest:
        accepted = False

    assert accepted == allowed


def test_what_the_operator_writes_fits_the_schema() -> None:
    """A field that is not in it would be dropped silently."""
    rules = schema()["properties"]["status"]
    written = status(evaluation())

    jsonschema.validate({"spec": {"target": {"name": "web"}}, "status": written}, schema())
    assert set(written) == set(rules["properties"])
    known = rules["properties"]["conditions"]["items"]["properties"]
    assert all(set(condition) == set(known) for condition in written["conditions"])


def test_every_column_of_kubectl_shows_something() -> None:
    """Its path leads to a field that a policy or its status has."""
    (version,) = documents("crd.yaml")[0]["spec"]["versions"]
    spec = defaulted(schema()["properties"]["spec"], {"target": {"name": "web"}})
    policy = {"spec": spec, "status": status(evaluation())}

    for column in version["additionalPrinterColumns"]:
        path = column["jsonPath"]
        if path == ".metadata.creationTimestamp":
            continue
        value: Any = policy
        plain = re.sub(r'\[\?\(@\.type=="(\w+)"\)\]', r".#\1", path)
        for part in plain.strip(".").split("."):
            if part.startswith("#"):
                value = next(one for one in value if one["type"] == part[1:])
            else:
                value = value[part]


def test_the_deployment_sets_what_the_operator_reads() -> None:
    """No key is misspelt, and its values are accepted."""
    container = document("deployment.yaml", "Deployment")["spec"]["template"]["spec"]["containers"][
        0
    ]
    environ = {one["name"]: one.get("value", "some-pod") for one in container["env"]}

    own, shared = operator_settings(environ), from_environ(environ)

    assert own.identity == "some-pod"
    assert shared.prometheus_endpoint == environ["PROMETHEUS_ENDPOINT"]
    assert container["ports"][0]["containerPort"] == own.port
    lease = document("rbac.yaml", "Role")
    assert own.lease == f"{lease['metadata']['namespace']}/{lease['rules'][1]['resourceNames'][0]}"


def test_the_pod_is_confined() -> None:
    """Not root, nothing writable but two folders, no more rights than it needs."""
    pod = document("deployment.yaml", "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["runAsNonRoot"] is True
    assert {"requests", "limits"} <= container["resources"].keys()
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
    assert not container["image"].endswith(":latest")


def granted() -> Iterator[Grant]:
    for role in ("ClusterRole", "Role"):
        found = document("rbac.yaml", role)
        namespace = found["metadata"].get("namespace")
        for rule in found["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        names = frozenset(rule.get("resourceNames", ()))
                        yield Grant(group, resource, verb, namespace, names)


def permits(grants: set[Grant], call: Call) -> bool:
    """As the API server decides: some rule has group, resource and verb, and the name if any."""
    return any(
        (one.group, one.resource, one.verb) == (call.group, call.resource, call.verb)
        and one.namespace in (None, call.namespace)
        and (not one.names or call.name in one.names)
        for one in grants
    )


def calls_of(cluster: StandIn, verb: str, resource: str) -> int:
    return sum((call.verb, call.resource) == (verb, resource) for call in cluster.calls)


@pytest.mark.service
@pytest.mark.parametrize("namespaces", [(), ("shop",)], ids=["everywhere", "one-namespace"])
async def test_the_rights_suffice_and_none_is_unused(
    tmp_path: Path, namespaces: tuple[str, ...]
) -> None:
    """Two operators' whole lives before an API server that forbids what is not granted.

    Election, take-over, scaling of both kinds, a second writer, conflicts on writes, a dropped
    watch, a deletion: everything succeeds, and every right that is granted is used.
    """
    grants, world = set(granted()), World(tmp_path)
    servers: list[Any] = [world.cluster, world.prometheus, world.kserve]
    world.cluster.faults.append(Fault(lambda call: not permits(grants, call), 403))
    for server in servers:
        await server.start()
    try:
        world.change["web"] = world.change["db"] = {"cpu_utilization": 0.95}
        world.add("web")
        stateful(world.cluster, "db")
        async with world.operator("one", namespaces=namespaces):
            await world.until("scaled", lambda: world.cluster.replicas("web") > 4)
            await world.until("both", lambda: source(world, "db") == "kserve")
            world.cluster.drop_watches()
            world.add("late")
            await world.until("seen", lambda: source(world, "late") == "kserve", 15.0)
            world.cluster.delete("nimbusguard.io", "scalingpolicies", "shop", "late")
            renewals = calls_of(world.cluster, "patch", "leases")
            await world.until(
                "the lease is renewed",
                lambda: calls_of(world.cluster, "patch", "leases") > renewals,
            )
        async with world.operator("two", namespaces=namespaces):
            lease = world.cluster.objects["coordination.k8s.io", "leases"]
            await world.until(
                "taken over",
                lambda: {one["spec"]["holderIdentity"] for one in lease.values()} == {"two"},
            )
    finally:
        for server in reversed(servers):
            await server.stop()

    calls = world.cluster.calls
    assert [call for call in calls if not permits(grants, call)] == []
    assert {one for one in grants if not any(permits({one}, call) for call in calls)} == set()


def test_a_right_for_one_name_is_no_right_for_another() -> None:
    """The judgement above would not notice a lease of somebody else otherwise."""
    grants = set(granted())
    own = Call("patch", "coordination.k8s.io", "leases", "nimbusguard", "nimbusguard-operator")

    assert permits(grants, own)
    assert not permits(grants, replace(own, name="kube-scheduler"))
    assert not permits(grants, replace(own, namespace="kube-system"))
    assert not permits(grants, replace(own, verb="delete"))


def stateful(cluster: StandIn, name: str) -> None:
    """A StatefulSet with its policy; the Deployment of that name is only for the metrics."""
    cluster.deployment(name, 4)
    body = {"metadata": {"namespace": "shop", "name": name}, "spec": {"replicas": 4}}
    cluster.put("apps", "statefulsets", body)
    cluster.policy(
        name, target={"kind": "StatefulSet", "name": name}, mode="act", intervalSeconds=1.0
    )


def test_the_leases_right_to_change_is_bound_to_one_name() -> None:
    """Other components' leases are not its to take."""
    rules = document("rbac.yaml", "Role")["rules"]

    assert [rule["verbs"] for rule in rules if "resourceNames" not in rule] == [["create"]]


def test_the_examples_are_accepted() -> None:
    """As printed in the documentation."""
    (policy,) = documents("examples/scalingpolicy.yaml")
    (scaled,) = documents("examples/scaledobject.yaml")

    jsonschema.validate(policy, schema())
    assert spec_of(policy["spec"]).mode is Mode.SHADOW
    assert "nimbusguard_desired_replicas" in scaled["spec"]["triggers"][0]["metadata"]["query"]

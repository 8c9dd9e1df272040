"""What is rendered for a cluster: valid, strictly, and what is misspelt is caught."""

from __future__ import annotations

import copy
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.app import cli
from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.export import cluster, kinds
from rave_cli.pool.export.checking import check, faults_of, faults_of_text
from rave_cli.pool.export.cluster import ClusterPool, FluxSource
from rave_cli.pool.export.kinds.shape import document
from rave_cli.pool.queue.streams import JOBS

PODS = ClusterPool("192.0.2.1:6379", "registry.example.org/worker@sha256:" + "1" * 64)
MACHINES = replace(PODS, redis="redis.data.svc:6379", kubevirt=True, authority=True)
SOURCES = (
    FluxSource("https://git.example.org/x", credentials="git"),
    FluxSource("oci://registry.example.org/x", "latest", key="age"),
)

# Schemas of others are not ours to keep. Where they lie (CRDs as JSON schema, with
# additionalProperties: false, as GROUP/KIND_VERSION.json) the rendering is held against them, too.
SCHEMAS = Path(os.environ.get("RAVE_SCHEMAS", Path(__file__).parents[5] / "shared/schemas"))


def rendered() -> dict[str, dict[str, Any]]:
    """Return every kind of object that there is, by a name of its own."""
    found: dict[str, dict[str, Any]] = {}
    for title, pool in (("pods", PODS), ("machines", MACHINES)):
        shapes = cluster.manifests(replace(pool, authority=True))
        found |= {f"{title}/{name}": document(shape) for name, shape in shapes.items()}
    for number, source in enumerate(SOURCES):
        shapes = cluster.flux(PODS, source)
        found |= {f"flux{number}/{name}": document(shape) for name, shape in shapes.items()}
    return found


ALL = rendered()


def test_all_that_is_rendered_is_good_and_each_kind_is_rendered() -> None:
    assert {name: faults_of(one) for name, one in ALL.items() if faults_of(one)} == {}
    seen = {(one["apiVersion"], one["kind"]) for one in ALL.values()}
    assert len(seen) == len(kinds.KINDS)


def job(document: dict[str, Any]) -> Any:
    return document["spec"]["jobTargetRef"]


# What people mistype, and what a schema of its project lets pass (a trigger's metadata is free-form
# to it, and an unknown field of a custom resource is dropped without a word).
TYPOS: dict[str, tuple[str, Any, str]] = {
    "scaleStrategy for scalingStrategy": (
        "pods/scaledjob.yaml",
        lambda one: one["spec"].update(scaleStrategy=one["spec"].pop("scalingStrategy")),
        "ScaledJob spec.scaleStrategy: there is no such field",
    ),
    "a rollout that ends what runs": (
        "pods/scaledjob.yaml",
        lambda one: one["spec"]["rollout"].update(strategy="default"),
        "ScaledJob spec.rollout.strategy: Input should be 'gradual'",
    ),
    "backofLimit for backoffLimit": (
        "pods/scaledjob.yaml",
        lambda one: job(one).update(backofLimit=job(one).pop("backoffLimit")),
        "ScaledJob spec.jobTargetRef.backofLimit: there is no such field",
    ),
    "a consumer group, which loses what it has read": (
        "pods/scaledjob.yaml",
        lambda one: one["spec"]["triggers"][0]["metadata"].update(consumerGroup="agents"),
        "ScaledJob spec.triggers.0.metadata.consumerGroup: there is no such field",
    ),
    "a number where a trigger wants text": (
        "pods/scaledjob.yaml",
        lambda one: one["spec"]["triggers"][0]["metadata"].update(streamLength=1),
        "ScaledJob spec.triggers.0.metadata.streamLength: Input should be a valid string",
    ),
    "matchLabel for matchLabels": (
        "pods/networkpolicy.yaml",
        lambda one: one["spec"].update(podSelector={"matchLabel": {}}),
        "NetworkPolicy spec.podSelector.matchLabel: there is no such field",
    ),
    "containerdisk for containerDisk": (
        "machines/machines.yaml",
        lambda one: one["spec"]["template"]["spec"]["volumes"][0].update(containerdisk={}),
        "spec.template.spec.volumes.0.containerdisk: there is no such field",
    ),
    "a version of Flux that is gone": (
        "flux0/source.yaml",
        lambda one: one.update(apiVersion="source.toolkit.fluxcd.io/v1beta2"),
        "no pool has an object of apiVersion 'source.toolkit.fluxcd.io/v1beta2'",
    ),
    "a disruption budget that Kubernetes does not take for Jobs": (
        "pods/poddisruptionbudget.yaml",
        lambda one: one["spec"].update(maxUnavailable=0),
        "PodDisruptionBudget spec.maxUnavailable: there is no such field",
    ),
}


@pytest.mark.parametrize("typo", TYPOS)
def test_each_typo_is_caught_where_it_is(typo: str) -> None:
    name, change, said = TYPOS[typo]
    document = copy.deepcopy(ALL[name])
    change(document)
    assert said in "\n".join(faults_of(document))


def places(document: object, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every object in a document."""
    if isinstance(document, list):
        return [found for n, one in enumerate(document) for found in places(one, (*above, n))]
    if not isinstance(document, dict):
        return []
    below = [found for name, one in document.items() for found in places(one, (*above, name))]
    return [above, *below]


FREE = ("labels", "matchLabels", "requests", "limits")


@given(st.data())
def test_a_field_that_nobody_named_is_an_error_wherever_it_stands(data: st.DataObject) -> None:
    document = copy.deepcopy(ALL[data.draw(st.sampled_from(sorted(ALL)))])
    way = data.draw(
        st.sampled_from([one for one in places(document) if not one or one[-1] not in FREE])
    )
    at: Any = document
    for step in way:
        at = at[step]
    at["nobodyNamedThis"] = data.draw(st.none() | st.booleans() | st.text())
    assert faults_of(document)


@given(st.text() | st.binary())
def test_whatever_a_file_holds_is_answered(text: str | bytes) -> None:
    assert faults_of_text(text)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_whatever_a_document_is_is_answered(document: Any) -> None:
    assert faults_of(document)


def test_a_key_that_is_there_twice_is_no_yaml() -> None:
    text = cluster.text(cluster.manifests(PODS)["scaledjob.yaml"])
    assert faults_of_text(text) == []
    twice = text.replace("  minReplicaCount: 0\n", "  minReplicaCount: 0\n  minReplicaCount: 9\n")
    assert "there twice" in faults_of_text(twice)[0]


# --- what the objects say


def test_keda_counts_all_that_waits_or_runs_and_lets_the_queue_try_again() -> None:
    spec = ALL["pods/scaledjob.yaml"]["spec"]
    assert cluster.STREAM == JOBS
    assert spec["triggers"][0]["metadata"] == {
        "address": "192.0.2.1:6379", "stream": JOBS, "streamLength": "1", "enableTLS": "true",
    }  # fmt: skip
    assert (spec["rollout"]["strategy"], spec["scalingStrategy"]["strategy"]) == (
        "gradual",
        "default",
    )
    pod = job(ALL["pods/scaledjob.yaml"])["template"]["spec"]
    assert (job(ALL["pods/scaledjob.yaml"])["backoffLimit"], pod["restartPolicy"]) == (0, "Never")
    # A worker that is to go has its grace, and some time to give its job back.
    grace = pod["containers"][0]["args"][-1]
    assert pod["terminationGracePeriodSeconds"] > int(grace)


def test_a_worker_is_called_as_rave_takes_it() -> None:
    words = job(ALL["pods/scaledjob.yaml"])["template"]["spec"]["containers"][0]["args"]
    done = CliRunner().invoke(cli, [*words, "--help"], prog_name="rave")
    assert done.exit_code == 0
    assert "Take a job of the pools" in done.output


def test_nothing_of_a_password_is_rendered_and_no_pod_has_a_token() -> None:
    assert "Secret" not in {one["kind"] for one in ALL.values()}
    pod = job(ALL["pods/scaledjob.yaml"])["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["containers"][0]["env"] == [
        {
            "name": "RAVE_POOL_REDIS",
            "valueFrom": {"secretKeyRef": {"name": "rave-pool-redis", "key": "url"}},
        }
    ]


def test_a_worker_reaches_names_and_the_server_alone() -> None:
    policy = ALL["pods/networkpolicy.yaml"]["spec"]
    assert (policy["ingress"], policy["policyTypes"]) == ([], ["Ingress", "Egress"])
    names, server = policy["egress"]
    assert {one["port"] for one in names["ports"]} == {53}
    assert server == {
        "to": [{"ipBlock": {"cidr": "192.0.2.1/32"}}],
        "ports": [{"protocol": "TCP", "port": 6379}],
    }
    there = ALL["machines/networkpolicy.yaml"]["spec"]["egress"][1]["to"]
    label = {"kubernetes.io/metadata.name": "data"}
    assert there == [{"namespaceSelector": {"matchLabels": label}}]
    labels = policy["podSelector"]["matchLabels"]
    assert job(ALL["pods/scaledjob.yaml"])["template"]["metadata"]["labels"] == labels


@pytest.mark.parametrize(
    "change",
    [
        {"redis": "redis.example.org:6379"},
        {"redis": "192.0.2.1"},
        {"redis": ":name@192.0.2.1:6379"},
        {"redis": "192.0.2.1:99999"},
        {"networks": ("192.0.2.1/8",)},
    ],
)
def test_a_server_that_cannot_be_told_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(RaveError) as refused:
        cluster.manifests(replace(PODS, **change))
    assert refused.value.exit_code == ExitCode.USAGE


def test_a_source_of_flux_is_git_or_an_artifact() -> None:
    assert ALL["flux0/sync.yaml"]["spec"]["sourceRef"]["kind"] == "GitRepository"
    assert ALL["flux1/sync.yaml"]["spec"]["decryption"]["provider"] == "sops"
    with pytest.raises(RaveError):
        cluster.flux(PODS, FluxSource("http://git.example.org/x"))


def test_files_are_written_and_checked(tmp_path: Path) -> None:
    words = ["pool", "export", "k8s", "--redis", "192.0.2.1:6379", "--image", "x", "--to"]
    folder = tmp_path / "deploy"
    source = ["--flux", "https://git.example.org/x"]
    done = CliRunner().invoke(cli, [*words, str(folder), *source])
    assert done.exit_code == 0, done.output
    assert {file.name for file in (folder / "flux").iterdir()} == {"source.yaml", "sync.yaml"}
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert sorted([*listed, "kustomization.yaml", "flux"]) == sorted(
        file.name for file in folder.iterdir()
    )
    assert not any(faults for _, faults in check([folder]))
    (folder / "scaledjob.yaml").write_text("kind: ScaledJob\n")
    words = ["pool", "export", "check", str(folder), "--json"]
    done = CliRunner().invoke(cli, words, standalone_mode=False)
    assert done.return_value == ExitCode.CHECK_FAILED
    bad = [one for one in json.loads(done.output) if one["faults"]]
    assert [Path(one["file"]).name for one in bad] == ["scaledjob.yaml"]


# --- what others say of it


# Of Kubernetes as old as what is rendered may be used with, and of the newest that is known.
RELEASES = ("1.33", "1.37")


def core() -> dict[str, dict[str, Any]]:
    """Return what Kubernetes itself knows: its objects, and the Job that KEDA makes."""
    own = ("v1", "networking.k8s.io/v1", "policy/v1")
    found = {name: one for name, one in ALL.items() if one["apiVersion"] in own}
    spec = job(ALL["pods/scaledjob.yaml"])
    made = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": spec}
    return found | {"pods/the job": made}


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", core())
def test_kubernetes_takes_what_is_rendered_and_nothing_besides(name: str, release: str) -> None:
    one = core()[name]
    # Compiles grammars for seconds: for whoever runs these tests, not for all who only list them.
    import kubernetes_validate

    kubernetes_validate.validate(one, release, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError, match="speck"):
        kubernetes_validate.validate(one | {"speck": 1}, release, strict=True)


@pytest.mark.parametrize(
    "name",
    [n for n, one in ALL.items() if "k8s.io" not in one["apiVersion"] and "." in one["apiVersion"]],
)
def test_the_schemas_of_their_projects_take_what_is_rendered(name: str) -> None:
    one = ALL[name]
    group, _, version = one["apiVersion"].partition("/")
    file = SCHEMAS / group / f"{one['kind'].lower()}_{version}.json"
    if not file.exists():
        pytest.skip(f"the schemas of others are not here: {file.name}; RAVE_SCHEMAS names where")
    import jsonschema

    faults = jsonschema.Draft7Validator(json.loads(file.read_text())).iter_errors(one)
    assert [re.sub(r"\s+", " ", fault.message)[:200] for fault in faults] == []

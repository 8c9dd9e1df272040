"""What stands around the workers: namespace, account, network policy, budget, kustomization."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from rave_cli.pool.export.kinds.shape import LabelSelector, Metadata, Shape


class Namespace(Shape):
    """v1 Namespace."""

    api_version: Literal["v1"]
    kind: Literal["Namespace"]
    metadata: Metadata


class ServiceAccount(Shape):
    """v1 ServiceAccount, of which no pod gets a token."""

    api_version: Literal["v1"]
    kind: Literal["ServiceAccount"]
    metadata: Metadata
    automount_service_account_token: Literal[False]


class IPBlock(Shape):
    """Addresses."""

    cidr: str


class Peer(Shape):
    """Who may be reached."""

    ip_block: IPBlock | None = None
    namespace_selector: LabelSelector | None = None
    pod_selector: LabelSelector | None = None


class NetworkPort(Shape):
    """A port."""

    protocol: Literal["TCP", "UDP"]
    port: int


class Egress(Shape):
    """What may be reached."""

    to: list[Peer]
    ports: list[NetworkPort]


class NetworkPolicySpec(Shape):
    """Nothing comes in, and this goes out."""

    pod_selector: LabelSelector
    policy_types: list[Literal["Ingress", "Egress"]]
    ingress: list[Any] = Field(max_length=0)
    egress: list[Egress]


class NetworkPolicy(Shape):
    """networking.k8s.io/v1 NetworkPolicy."""

    api_version: Literal["networking.k8s.io/v1"]
    kind: Literal["NetworkPolicy"]
    metadata: Metadata
    spec: NetworkPolicySpec


class DisruptionBudgetSpec(Shape):
    """Whom nobody evicts. Of pods that no scalable controller has, only a number of them can be
    said (https://kubernetes.io/docs/tasks/run-application/configure-pdb/).
    """

    min_available: int
    unhealthy_pod_eviction_policy: Literal["AlwaysAllow"]
    selector: LabelSelector


class DisruptionBudget(Shape):
    """policy/v1 PodDisruptionBudget."""

    api_version: Literal["policy/v1"]
    kind: Literal["PodDisruptionBudget"]
    metadata: Metadata
    spec: DisruptionBudgetSpec


class Kustomization(Shape):
    """kustomize.config.k8s.io/v1beta1 Kustomization: the files of a folder."""

    api_version: Literal["kustomize.config.k8s.io/v1beta1"]
    kind: Literal["Kustomization"]
    resources: list[str]

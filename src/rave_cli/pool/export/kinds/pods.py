"""Pods and jobs of Kubernetes, as far as a worker is one (1.33 and later)."""

from __future__ import annotations

from typing import Literal

from rave_cli.pool.export.kinds.shape import Labels, Name, Quantity, Shape


class SecretKey(Shape):
    """A key of a Secret."""

    name: Name
    key: str


class ValueFrom(Shape):
    """Where a variable comes from."""

    secret_key_ref: SecretKey


class Variable(Shape):
    """A variable of a container."""

    name: str
    value: str | None = None
    value_from: ValueFrom | None = None


class ContainerResources(Shape):
    """What a container may take."""

    requests: dict[str, Quantity]
    limits: dict[str, Quantity]


class Capabilities(Shape):
    """Capabilities of a process."""

    drop: list[Literal["ALL"]]


class ContainerSecurity(Shape):
    """What a container may not do."""

    allow_privilege_escalation: Literal[False]
    capabilities: Capabilities


class ContainerMount(Shape):
    """A volume in a container."""

    name: Name
    mount_path: str
    read_only: bool | None = None


class Container(Shape):
    """A container."""

    name: Name
    image: str
    args: list[str]
    env: list[Variable]
    resources: ContainerResources
    security_context: ContainerSecurity
    volume_mounts: list[ContainerMount]


class EmptyDir(Shape):
    """A folder that ends with its pod."""

    size_limit: Quantity


class SecretItem(Shape):
    """A key of a Secret as a file."""

    key: str
    path: str


class SecretVolume(Shape):
    """A Secret as files."""

    secret_name: Name
    items: list[SecretItem] | None = None
    default_mode: int | None = None


class Volume(Shape):
    """A volume of a pod."""

    name: Name
    empty_dir: EmptyDir | None = None
    secret: SecretVolume | None = None


class SeccompProfile(Shape):
    """Which system calls there are."""

    type: Literal["RuntimeDefault"]


class PodSecurity(Shape):
    """Who a pod runs as."""

    run_as_non_root: Literal[True]
    run_as_user: int
    run_as_group: int
    fs_group: int
    seccomp_profile: SeccompProfile


class PodSpec(Shape):
    """A pod."""

    restart_policy: Literal["Never"]
    service_account_name: Name
    automount_service_account_token: Literal[False]
    enable_service_links: Literal[False]
    termination_grace_period_seconds: int
    security_context: PodSecurity
    containers: list[Container]
    volumes: list[Volume]


class PodMetadata(Shape):
    """What pods of a template are labelled with."""

    labels: Labels


class PodTemplate(Shape):
    """A pod that is made again and again."""

    metadata: PodMetadata
    spec: PodSpec


class JobSpec(Shape):
    """A Job (batch/v1): one pod, once. The queue tries again, nobody else."""

    parallelism: Literal[1]
    completions: Literal[1]
    backoff_limit: Literal[0]
    active_deadline_seconds: int
    ttl_seconds_after_finished: int
    template: PodTemplate

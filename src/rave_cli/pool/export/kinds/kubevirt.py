"""Machines of KubeVirt that are workers (kubevirt.io/v1)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from rave_cli.pool.export.kinds.pods import (  # pydantic reads them
    PodMetadata,  # noqa: TC001
    SecretVolume,  # noqa: TC001
)
from rave_cli.pool.export.kinds.shape import LabelSelector, Metadata, Name, Quantity, Shape


class Memory(Shape):
    """Memory of a machine."""

    guest: Quantity


class Cpu(Shape):
    """Processors of a machine; `host-passthrough` lets it run machines itself."""

    cores: int
    model: Literal["host-passthrough"]


class Bus(Shape):
    """How a disk is attached."""

    bus: Literal["virtio"]


class Disk(Shape):
    """A disk of a machine; its guest finds it by its serial number."""

    name: Name
    disk: Bus
    serial: str | None = None


class Interface(Shape):
    """A network device behind its pod's address."""

    name: Name
    masquerade: dict[str, Any] = Field(max_length=0)


class Devices(Shape):
    """Devices of a machine."""

    disks: list[Disk]
    interfaces: list[Interface]
    rng: dict[str, Any] = Field(max_length=0)


class Domain(Shape):
    """A machine."""

    memory: Memory
    cpu: Cpu
    devices: Devices


class PodNetwork(Shape):
    """The network of its pod."""

    name: Name
    pod: dict[str, Any] = Field(max_length=0)


class ContainerDisk(Shape):
    """A disk that is an image of a registry; what is written to it ends with the machine."""

    image: str


class EmptyDisk(Shape):
    """An empty disk that ends with its machine."""

    capacity: Quantity


class MachineVolume(Shape):
    """A volume of a machine."""

    name: Name
    container_disk: ContainerDisk | None = None
    empty_disk: EmptyDisk | None = None
    secret: SecretVolume | None = None


class MachineInstanceSpec(Shape):
    """A machine of KubeVirt."""

    termination_grace_period_seconds: int
    domain: Domain
    networks: list[PodNetwork]
    volumes: list[MachineVolume]


class MachineTemplateSpec(Shape):
    """A machine that is made again and again."""

    metadata: PodMetadata
    spec: MachineInstanceSpec


class ReplicaSetSpec(Shape):
    """So many machines; KEDA says how many."""

    replicas: int
    selector: LabelSelector
    template: MachineTemplateSpec


class MachineReplicaSet(Shape):
    """kubevirt.io/v1 VirtualMachineInstanceReplicaSet."""

    api_version: Literal["kubevirt.io/v1"]
    kind: Literal["VirtualMachineInstanceReplicaSet"]
    metadata: Metadata
    spec: ReplicaSetSpec

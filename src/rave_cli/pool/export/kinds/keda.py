"""Objects of KEDA: how many workers there are (keda.sh/v1alpha1, 2.17 and later)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rave_cli.pool.export.kinds.pods import JobSpec  # noqa: TC001 - pydantic reads it
from rave_cli.pool.export.kinds.shape import Digits, Metadata, Name, Shape


class Rollout(Shape):
    """How a change comes: `gradual` lets what runs come to its end."""

    strategy: Literal["gradual"]
    propagation_policy: Literal["foreground"]


class ScalingStrategy(Shape):
    """How many are made: as many as wait, less those that run."""

    strategy: Literal["default"]


class StreamMetadata(Shape):
    """What KEDA counts: entries of a stream. No consumer group: what one has read and lost would
    be counted no more.
    """

    address: str
    stream: str
    stream_length: Digits
    enable_tls: Literal["true", "false"] = Field(alias="enableTLS")


class AuthenticationRef(Shape):
    """A TriggerAuthentication of the same namespace."""

    name: Name


class Trigger(Shape):
    """What is counted."""

    type: Literal["redis-streams"]
    metadata: StreamMetadata
    authentication_ref: AuthenticationRef


class ScaledJobSpec(Shape):
    """Jobs as there are entries."""

    polling_interval: int
    min_replica_count: int
    max_replica_count: int
    successful_jobs_history_limit: int
    failed_jobs_history_limit: int
    rollout: Rollout
    scaling_strategy: ScalingStrategy
    job_target_ref: JobSpec
    triggers: list[Trigger]


class ScaledJob(Shape):
    """keda.sh/v1alpha1 ScaledJob."""

    api_version: Literal["keda.sh/v1alpha1"]
    kind: Literal["ScaledJob"]
    metadata: Metadata
    spec: ScaledJobSpec


class ScaleTarget(Shape):
    """What KEDA scales."""

    api_version: Literal["kubevirt.io/v1"]
    kind: Literal["VirtualMachineInstanceReplicaSet"]
    name: Name


class ScaledObjectSpec(Shape):
    """Machines as there are entries."""

    scale_target_ref: ScaleTarget
    polling_interval: int
    cooldown_period: int
    min_replica_count: int
    max_replica_count: int
    triggers: list[Trigger]


class ScaledObject(Shape):
    """keda.sh/v1alpha1 ScaledObject."""

    api_version: Literal["keda.sh/v1alpha1"]
    kind: Literal["ScaledObject"]
    metadata: Metadata
    spec: ScaledObjectSpec


class SecretTarget(Shape):
    """A parameter of a trigger that is a key of a Secret."""

    parameter: Literal["username", "password", "ca"]
    name: Name
    key: str


class TriggerAuthenticationSpec(Shape):
    """How KEDA is let in."""

    secret_target_ref: list[SecretTarget]


class TriggerAuthentication(Shape):
    """keda.sh/v1alpha1 TriggerAuthentication."""

    api_version: Literal["keda.sh/v1alpha1"]
    kind: Literal["TriggerAuthentication"]
    metadata: Metadata
    spec: TriggerAuthenticationSpec

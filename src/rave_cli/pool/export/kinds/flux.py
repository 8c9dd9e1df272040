"""Objects of Flux: where a cluster finds all of this (source and kustomize v1, 2.8 and later)."""

from __future__ import annotations

from typing import Literal

from rave_cli.pool.export.kinds.shape import Duration, Metadata, Name, Shape


class GitReference(Shape):
    """A branch."""

    branch: str


class SecretRef(Shape):
    """A Secret."""

    name: Name


class GitRepositorySpec(Shape):
    """A repository that is fetched."""

    interval: Duration
    url: str
    ref: GitReference
    secret_ref: SecretRef | None = None


class GitRepository(Shape):
    """source.toolkit.fluxcd.io/v1 GitRepository."""

    api_version: Literal["source.toolkit.fluxcd.io/v1"]
    kind: Literal["GitRepository"]
    metadata: Metadata
    spec: GitRepositorySpec


class OCIReference(Shape):
    """A tag."""

    tag: str


class OCIRepositorySpec(Shape):
    """An artifact that is fetched."""

    interval: Duration
    url: str
    ref: OCIReference
    secret_ref: SecretRef | None = None


class OCIRepository(Shape):
    """source.toolkit.fluxcd.io/v1 OCIRepository."""

    api_version: Literal["source.toolkit.fluxcd.io/v1"]
    kind: Literal["OCIRepository"]
    metadata: Metadata
    spec: OCIRepositorySpec


class SourceRef(Shape):
    """A source."""

    kind: Literal["GitRepository", "OCIRepository"]
    name: Name


class Decryption(Shape):
    """How Flux opens what SOPS sealed."""

    provider: Literal["sops"]
    secret_ref: SecretRef


class FluxKustomizationSpec(Shape):
    """What of a source is applied."""

    interval: Duration
    source_ref: SourceRef
    path: str
    prune: bool
    wait: bool
    timeout: Duration
    target_namespace: Name | None = None
    decryption: Decryption | None = None


class FluxKustomization(Shape):
    """kustomize.toolkit.fluxcd.io/v1 Kustomization."""

    api_version: Literal["kustomize.toolkit.fluxcd.io/v1"]
    kind: Literal["Kustomization"]
    metadata: Metadata
    spec: FluxKustomizationSpec

"""What each kind of object may say, exactly as far as a pool says it.

Narrower than the schemas of their projects, on purpose: those let a typo pass in what is free-form
to them (a trigger's metadata, an unknown field in a custom resource), and are too large to carry.
Whatever is not named here is an error, whatever is misspelt too.

Sources: Kubernetes 1.33 and later; KEDA 2.17 and later (keda.sh/v1alpha1); Flux 2.8 and later
(source and kustomize v1); KubeVirt 1 (kubevirt.io/v1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rave_cli.pool.export.kinds import core, flux, keda, kubevirt

if TYPE_CHECKING:
    from rave_cli.pool.export.kinds.shape import Shape

KINDS: tuple[type[Shape], ...] = (
    keda.ScaledJob,
    keda.ScaledObject,
    keda.TriggerAuthentication,
    core.Namespace,
    core.ServiceAccount,
    core.NetworkPolicy,
    core.DisruptionBudget,
    core.Kustomization,
    flux.GitRepository,
    flux.OCIRepository,
    flux.FluxKustomization,
    kubevirt.MachineReplicaSet,
)

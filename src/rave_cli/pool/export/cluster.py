"""The objects with which a cluster runs the jobs of pools that share a Redis server.

KEDA counts the entries of the queue's stream, those that wait and those that run, and makes a
worker for each that has none: `rave pool work`, in a pod or in a machine of KubeVirt. Reasons:
docs/explanation/the-pool.md and docs/adr/0042-several-hosts.md.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.export.kinds import core, keda, kubevirt, pods
from rave_cli.pool.export.kinds import flux as fluxcd
from rave_cli.pool.export.kinds.shape import LabelSelector, Metadata, document

if TYPE_CHECKING:
    from rave_cli.pool.export.kinds.shape import Shape

# The stream whose entries are the jobs that wait or run (pool/queue/streams.py, JOBS).
STREAM = "rave:jobs"

# Who a worker runs as: nobody that a node knows.
USER = 65532

# Seconds beyond a worker's grace in which it gives its job back and ends its machine.
MARGIN = 30

# Seconds without an entry after which KEDA takes machines of KubeVirt away.
IDLE = 300

_SERVICE = re.compile(r"[a-z0-9-]+\.(?P<namespace>[a-z0-9-]+)\.svc(\..+)?")


@dataclass(frozen=True)
class ClusterPool:
    """What is asked for.

    Attributes:
        redis: HOST:PORT of the server.
        image: of a worker's container, or of its disk with `kubevirt`.
        kubevirt: whether workers are machines of KubeVirt instead of pods.
        profile: of the machines of jobs.
        base: of the same.
        memory_mib: of each machine, beside which QEMU needs some; of the whole with `kubevirt`.
        cpus: of the same.
        disk_gib: what a worker may write.
        most: workers at a time.
        kvm: whether nodes have the device that KubeVirt's handler gives to pods.
        tls: whether the server is reached by TLS.
        authority: whether the Secret has its certificate authority.
        networks: where the server is, as CIDR; empty if its name says so.
        deadline: seconds for which a worker may live.
        grace: seconds that a job has to end when its worker is to go.
        name: of the objects.
        namespace: where they are.
        secret: the Secret with the server's URL, user and password.
    """

    redis: str
    image: str
    kubevirt: bool = False
    profile: str = "demo"
    base: str = "debian"
    memory_mib: int = 2048
    cpus: int = 2
    disk_gib: int = 16
    most: int = 8
    kvm: bool = True
    tls: bool = True
    authority: bool = False
    networks: tuple[str, ...] = ()
    deadline: int = 7200
    grace: int = 60
    name: str = "rave-pool"
    namespace: str = "rave-pool"
    secret: str = "rave-pool-redis"  # noqa: S105 - its name


@dataclass(frozen=True)
class FluxSource:
    """Where Flux finds the manifests.

    Attributes:
        url: of a git repository, or oci:// of an artifact.
        reference: branch, or tag.
        path: the folder there.
        credentials: a Secret for the source; empty for none.
        key: a Secret with the age key that opens what SOPS sealed there; empty for none.
    """

    url: str
    reference: str = "main"
    path: str = "./rave-pool"
    credentials: str = ""
    key: str = ""


def manifests(pool: ClusterPool) -> dict[str, Shape]:
    """Return the objects by the names of their files.

    Raises:
        RaveError: USAGE if the server's place cannot be told of its name.
    """
    found = {
        "namespace.yaml": _namespace(pool),
        "serviceaccount.yaml": _service_account(pool),
        "triggerauthentication.yaml": _authentication(pool),
        "networkpolicy.yaml": _network(pool),
        "poddisruptionbudget.yaml": _budget(pool),
    }
    if pool.kubevirt:
        found |= {"machines.yaml": _machines(pool), "scaledobject.yaml": _scaled_object(pool)}
    else:
        found["scaledjob.yaml"] = _scaled_job(pool)
    all_of_them = core.Kustomization(
        api_version="kustomize.config.k8s.io/v1beta1", kind="Kustomization", resources=sorted(found)
    )
    return found | {"kustomization.yaml": all_of_them}


def flux(pool: ClusterPool, source: FluxSource) -> dict[str, Shape]:
    """Return what lets Flux keep a cluster at that.

    Raises:
        RaveError: USAGE if the source is neither.
    """
    scheme = source.url.partition("://")[0]
    place = Metadata(name=pool.name, namespace="flux-system")
    credentials = fluxcd.SecretRef(name=source.credentials) if source.credentials else None
    kept: fluxcd.GitRepository | fluxcd.OCIRepository
    if scheme == "oci":
        kept = fluxcd.OCIRepository(
            api_version="source.toolkit.fluxcd.io/v1",
            kind="OCIRepository",
            metadata=place,
            spec=fluxcd.OCIRepositorySpec(
                interval="5m",
                url=source.url,
                ref=fluxcd.OCIReference(tag=source.reference),
                secret_ref=credentials,
            ),
        )
    elif scheme in ("https", "ssh"):
        kept = fluxcd.GitRepository(
            api_version="source.toolkit.fluxcd.io/v1",
            kind="GitRepository",
            metadata=place,
            spec=fluxcd.GitRepositorySpec(
                interval="5m",
                url=source.url,
                ref=fluxcd.GitReference(branch=source.reference),
                secret_ref=credentials,
            ),
        )
    else:
        raise RaveError(
            f"{source.url!r} is no source of Flux",
            hint="--flux https://HOST/PATH, ssh://git@HOST/PATH or oci://HOST/PATH",
            exit_code=ExitCode.USAGE,
        )
    decryption = (
        fluxcd.Decryption(provider="sops", secret_ref=fluxcd.SecretRef(name=source.key))
        if source.key
        else None
    )
    applied = fluxcd.FluxKustomization(
        api_version="kustomize.toolkit.fluxcd.io/v1",
        kind="Kustomization",
        metadata=place,
        spec=fluxcd.FluxKustomizationSpec(
            interval="10m",
            source_ref=fluxcd.SourceRef(kind=kept.kind, name=pool.name),
            path=source.path,
            prune=True,
            wait=True,
            timeout="5m",
            decryption=decryption,
        ),
    )
    return {"source.yaml": kept, "sync.yaml": applied}


def text(shape: Shape) -> str:
    """Return an object as a file has it."""
    return yaml.safe_dump(document(shape), sort_keys=False, width=100)


# --- the objects


def _labels(pool: ClusterPool) -> dict[str, str]:
    return {"app.kubernetes.io/name": "rave-pool", "app.kubernetes.io/instance": pool.name}


def _metadata(pool: ClusterPool) -> Metadata:
    return Metadata(name=pool.name, namespace=pool.namespace, labels=_labels(pool))


def _workers(pool: ClusterPool) -> LabelSelector:
    return LabelSelector(match_labels=_labels(pool))


def _namespace(pool: ClusterPool) -> core.Namespace:
    # What KubeVirt's pods need is KubeVirt's to say.
    labels = None if pool.kubevirt else {"pod-security.kubernetes.io/enforce": "restricted"}
    return core.Namespace(
        api_version="v1",
        kind="Namespace",
        metadata=Metadata(name=pool.namespace, labels=labels),
    )


def _service_account(pool: ClusterPool) -> core.ServiceAccount:
    return core.ServiceAccount(
        api_version="v1",
        kind="ServiceAccount",
        metadata=_metadata(pool),
        automount_service_account_token=False,
    )


def _authentication(pool: ClusterPool) -> keda.TriggerAuthentication:
    named = [
        keda.SecretTarget(parameter="username", name=pool.secret, key="username"),
        keda.SecretTarget(parameter="password", name=pool.secret, key="password"),
    ]
    if pool.authority:
        named.append(keda.SecretTarget(parameter="ca", name=pool.secret, key="ca.crt"))
    return keda.TriggerAuthentication(
        api_version="keda.sh/v1alpha1",
        kind="TriggerAuthentication",
        metadata=_metadata(pool),
        spec=keda.TriggerAuthenticationSpec(secret_target_ref=named),
    )


def _network(pool: ClusterPool) -> core.NetworkPolicy:
    _, port = _address(pool)
    names = core.Peer(
        namespace_selector=LabelSelector(
            match_labels={"kubernetes.io/metadata.name": "kube-system"}
        ),
        pod_selector=LabelSelector(match_labels={"k8s-app": "kube-dns"}),
    )
    asked = [core.NetworkPort(protocol="UDP", port=53), core.NetworkPort(protocol="TCP", port=53)]
    server = core.Egress(to=_peers(pool), ports=[core.NetworkPort(protocol="TCP", port=port)])
    return core.NetworkPolicy(
        api_version="networking.k8s.io/v1",
        kind="NetworkPolicy",
        metadata=_metadata(pool),
        spec=core.NetworkPolicySpec(
            pod_selector=_workers(pool),
            policy_types=["Ingress", "Egress"],
            ingress=[],
            egress=[core.Egress(to=[names], ports=asked), server],
        ),
    )


def _address(pool: ClusterPool) -> tuple[str, int]:
    host, _, port = pool.redis.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536 or "@" in host or "/" in host:
        raise RaveError(
            "the Redis server is named by its host and port alone",
            hint="--redis HOST:PORT; its URL, with a password, belongs into the Secret",
            exit_code=ExitCode.USAGE,
        )
    return host, int(port)


def _peers(pool: ClusterPool) -> list[core.Peer]:
    host, _ = _address(pool)
    if pool.networks:
        return [
            core.Peer(ip_block=core.IPBlock(cidr=one)) for one in map(_network_of, pool.networks)
        ]
    service = _SERVICE.fullmatch(host)
    if service is not None:
        label = {"kubernetes.io/metadata.name": service["namespace"]}
        return [core.Peer(namespace_selector=LabelSelector(match_labels=label))]
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError as error:
        raise RaveError(
            f"a network policy knows addresses, and {host} is a name",
            hint="--redis-network CIDR   (where the server is)",
            exit_code=ExitCode.USAGE,
        ) from error
    return [core.Peer(ip_block=core.IPBlock(cidr=f"{address}/{address.max_prefixlen}"))]


def _network_of(word: str) -> str:
    try:
        return str(ipaddress.ip_network(word))
    except ValueError as error:
        raise RaveError(
            f"{word} is no network: {error}", hint="192.0.2.0/28", exit_code=ExitCode.USAGE
        ) from error


def _budget(pool: ClusterPool) -> core.DisruptionBudget:
    # As many as there may be: none that works is evicted. A node is drained once its jobs end.
    return core.DisruptionBudget(
        api_version="policy/v1",
        kind="PodDisruptionBudget",
        metadata=_metadata(pool),
        spec=core.DisruptionBudgetSpec(
            min_available=pool.most,
            unhealthy_pod_eviction_policy="AlwaysAllow",
            selector=_workers(pool),
        ),
    )


def _trigger(pool: ClusterPool) -> keda.Trigger:
    host, port = _address(pool)
    return keda.Trigger(
        type="redis-streams",
        metadata=keda.StreamMetadata(
            address=f"{host}:{port}",
            stream=STREAM,
            stream_length="1",
            enable_tls="true" if pool.tls else "false",
        ),
        authentication_ref=keda.AuthenticationRef(name=pool.name),
    )


def _scaled_job(pool: ClusterPool) -> keda.ScaledJob:
    return keda.ScaledJob(
        api_version="keda.sh/v1alpha1",
        kind="ScaledJob",
        metadata=_metadata(pool),
        spec=keda.ScaledJobSpec(
            polling_interval=5,
            min_replica_count=0,
            max_replica_count=pool.most,
            successful_jobs_history_limit=5,
            failed_jobs_history_limit=20,
            rollout=keda.Rollout(strategy="gradual", propagation_policy="foreground"),
            scaling_strategy=keda.ScalingStrategy(strategy="default"),
            job_target_ref=pods.JobSpec(
                parallelism=1,
                completions=1,
                backoff_limit=0,
                active_deadline_seconds=pool.deadline,
                ttl_seconds_after_finished=600,
                template=pods.PodTemplate(
                    metadata=pods.PodMetadata(labels=_labels(pool)), spec=_pod(pool)
                ),
            ),
            triggers=[_trigger(pool)],
        ),
    )


def _pod(pool: ClusterPool) -> pods.PodSpec:
    volumes = [pods.Volume(name="tmp", empty_dir=pods.EmptyDir(size_limit="1Gi"))]
    if pool.authority:
        items = [pods.SecretItem(key="ca.crt", path="ca.crt")]
        secret = pods.SecretVolume(secret_name=pool.secret, items=items, default_mode=0o440)
        volumes.append(pods.Volume(name="authority", secret=secret))
    return pods.PodSpec(
        restart_policy="Never",
        service_account_name=pool.name,
        automount_service_account_token=False,
        enable_service_links=False,
        termination_grace_period_seconds=pool.grace + MARGIN,
        security_context=pods.PodSecurity(
            run_as_non_root=True,
            run_as_user=USER,
            run_as_group=USER,
            fs_group=USER,
            seccomp_profile=pods.SeccompProfile(type="RuntimeDefault"),
        ),
        containers=[_container(pool)],
        volumes=volumes,
    )


def _container(pool: ClusterPool) -> pods.Container:
    # The machine's memory is QEMU's, which takes some for itself.
    takes = {"cpu": str(pool.cpus), "memory": f"{pool.memory_mib + 512}Mi"}
    # What it writes, into its own layer: machines and templates end with the pod.
    takes["ephemeral-storage"] = f"{pool.disk_gib}Gi"
    device = {"devices.kubevirt.io/kvm": "1"} if pool.kvm else {}
    url = pods.ValueFrom(secret_key_ref=pods.SecretKey(name=pool.secret, key="url"))
    mounts = [pods.ContainerMount(name="tmp", mount_path="/tmp")]  # noqa: S108 - a volume of its own
    if pool.authority:
        mounts.append(
            pods.ContainerMount(name="authority", mount_path="/etc/rave/authority", read_only=True)
        )
    return pods.Container(
        name="worker",
        image=pool.image,
        args=[
            "pool", "work", "--profile", pool.profile, "--base", pool.base,
            "--memory", str(pool.memory_mib), "--cpus", str(pool.cpus),
            "--wait", "30", "--grace", str(pool.grace),
        ],
        env=[pods.Variable(name="RAVE_POOL_REDIS", value_from=url)],
        resources=pods.ContainerResources(requests=takes | device, limits=takes | device),
        security_context=pods.ContainerSecurity(
            allow_privilege_escalation=False,
            capabilities=pods.Capabilities(drop=["ALL"]),
        ),
        volume_mounts=mounts,
    )  # fmt: skip


def _machines(pool: ClusterPool) -> kubevirt.MachineReplicaSet:
    disks = [("root", None), ("data", "rave-data"), ("redis", "rave-redis")]
    return kubevirt.MachineReplicaSet(
        api_version="kubevirt.io/v1",
        kind="VirtualMachineInstanceReplicaSet",
        metadata=_metadata(pool),
        spec=kubevirt.ReplicaSetSpec(
            replicas=0,
            selector=_workers(pool),
            template=kubevirt.MachineTemplateSpec(
                metadata=pods.PodMetadata(labels=_labels(pool)),
                spec=kubevirt.MachineInstanceSpec(
                    termination_grace_period_seconds=pool.grace + MARGIN,
                    domain=kubevirt.Domain(
                        memory=kubevirt.Memory(guest=f"{pool.memory_mib}Mi"),
                        cpu=kubevirt.Cpu(cores=pool.cpus, model="host-passthrough"),
                        devices=kubevirt.Devices(
                            disks=[
                                kubevirt.Disk(
                                    name=name, disk=kubevirt.Bus(bus="virtio"), serial=serial
                                )
                                for name, serial in disks
                            ],
                            interfaces=[kubevirt.Interface(name="default", masquerade={})],
                            rng={},
                        ),
                    ),
                    networks=[kubevirt.PodNetwork(name="default", pod={})],
                    volumes=[
                        kubevirt.MachineVolume(
                            name="root", container_disk=kubevirt.ContainerDisk(image=pool.image)
                        ),
                        kubevirt.MachineVolume(
                            name="data",
                            empty_disk=kubevirt.EmptyDisk(capacity=f"{pool.disk_gib}Gi"),
                        ),
                        kubevirt.MachineVolume(
                            name="redis", secret=pods.SecretVolume(secret_name=pool.secret)
                        ),
                    ],
                ),
            ),
        ),
    )


def _scaled_object(pool: ClusterPool) -> keda.ScaledObject:
    return keda.ScaledObject(
        api_version="keda.sh/v1alpha1",
        kind="ScaledObject",
        metadata=_metadata(pool),
        spec=keda.ScaledObjectSpec(
            scale_target_ref=keda.ScaleTarget(
                api_version="kubevirt.io/v1",
                kind="VirtualMachineInstanceReplicaSet",
                name=pool.name,
            ),
            polling_interval=5,
            cooldown_period=IDLE,
            min_replica_count=0,
            max_replica_count=pool.most,
            triggers=[_trigger(pool)],
        ),
    )

"""`rave pool export k8s`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.option(
    "--redis", required=True, metavar="HOST:PORT", help="The server that the pools share."
)
@click.option(
    "--image", required=True, metavar="REFERENCE",
    help="Of a worker's container; with --kubevirt of its disk. By digest: nobody moves those.",
)  # fmt: skip
@click.option(
    "--kubevirt", is_flag=True, help="Workers are machines of KubeVirt, not pods with QEMU."
)
@click.option("--profile", default="demo", show_default=True, help="Of the machines of jobs.")
@click.option(
    "--base", type=click.Choice(["debian"]), default="debian", show_default=True,
    help="Of the machines of jobs.",
)  # fmt: skip
@click.option(
    "--memory", "memory_mib", type=click.IntRange(256), default=2048, show_default=True,
    metavar="MIB", help="Memory of a job's machine; with --kubevirt of the worker's.",
)  # fmt: skip
@click.option(
    "--cpus", type=click.IntRange(1, 64), default=2, show_default=True, metavar="N",
    help="Processors of the same.",
)  # fmt: skip
@click.option(
    "--disk", "disk_gib", type=click.IntRange(1), default=16, show_default=True, metavar="GIB",
    help="What a worker may write.",
)  # fmt: skip
@click.option(
    "--most", type=click.IntRange(1, 1000), default=8, show_default=True, metavar="N",
    help="Workers at a time.",
)  # fmt: skip
@click.option(
    "--kvm/--no-kvm", default=True, show_default=True,
    help="Ask nodes for /dev/kvm, as KubeVirt's handler offers it.",
)  # fmt: skip
@click.option("--tls/--no-tls", default=True, show_default=True, help="Reach the server by TLS.")
@click.option(
    "--authority", is_flag=True, help="The Secret has the authority of the server's certificate."
)
@click.option(
    "--redis-network", "networks", multiple=True, metavar="CIDR",
    help="Where the server is, unless its name or address says so.",
)  # fmt: skip
@click.option(
    "--deadline", type=click.IntRange(60), default=7200, show_default=True, metavar="SECONDS",
    help="How long a worker may live.",
)  # fmt: skip
@click.option(
    "--grace", type=click.IntRange(0, 86400), default=60, show_default=True, metavar="SECONDS",
    help="How long a job may go on when its worker is to go.",
)  # fmt: skip
@click.option("--name", default="rave-pool", show_default=True, help="Of the objects.")
@click.option("--namespace", default="rave-pool", show_default=True, help="Where they are.")
@click.option(
    "--secret", default="rave-pool-redis", show_default=True,
    help="The Secret with url, username and password of the server.",
)  # fmt: skip
@click.option(
    "--flux", "flux_url", metavar="URL", help="Let Flux apply them from there: git or oci://."
)
@click.option("--flux-ref", default="main", show_default=True, help="Branch, or tag of oci://.")
@click.option("--flux-path", default="./rave-pool", show_default=True, help="The folder there.")
@click.option("--flux-secret", default="", help="A Secret that opens that source.")
@click.option("--flux-key", default="", help="A Secret with the age key of what SOPS sealed there.")
@click.option(
    "--to", "target", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
    help="Write a file for each there; Flux's own go to FOLDER/flux.",
)  # fmt: skip
@json_option
@pass_app
@audited
def k8s(
    app: App,
    *,
    target: Path | None,
    flux_url: str | None,
    flux_ref: str,
    flux_path: str,
    flux_secret: str,
    flux_key: str,
    **asked: Any,  # noqa: ANN401 - what Click read
) -> None:
    """Render what a cluster needs to run the jobs of pools that share a Redis server.

    A worker is made by KEDA for each job that waits and goes with it; without jobs there is none.
    No password is rendered: the Secret is yours to make. `rave pool export check` holds what was
    rendered, and whatever became of it, against what a pool says.

    \b
    Example: rave pool export k8s --redis redis.rave.svc:6379 --image worker@sha256:… --to deploy
    """
    from rave_cli.pool.export import cluster
    from rave_cli.pool.export.kinds.shape import document

    pool = cluster.ClusterPool(**asked)
    found = cluster.manifests(pool)
    if flux_url is not None:
        source = cluster.FluxSource(flux_url, flux_ref, flux_path, flux_secret, flux_key)
        synced = cluster.flux(pool, source)
        found |= {f"flux/{name}": shape for name, shape in synced.items()}
    texts = {name: cluster.text(shape) for name, shape in found.items()}
    documents = {name: document(shape) for name, shape in found.items()}
    if target is None:
        app.show.result(documents, *"---\n".join(texts.values()).splitlines())
        return
    from rave_cli import paths

    for name, text in texts.items():
        file = target / name
        paths.make_dir(file.parent, mode=0o755)
        paths.atomic_write(file, text.encode())
    app.show.result(documents, *(str(target / name) for name in texts))

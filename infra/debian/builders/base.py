"""Builder of the base: every package of a lock installed into one root file system, as a tar.

Usage: base.py SPEC OUT; SPEC is JSON that ../default.nix writes. Of the host it uses python3,
tar, unshare, mount and chroot; all else, dpkg included, comes from the packages.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from guestroot import clamp_times, extract_deb, guest_environment, remove, run_in, say

if TYPE_CHECKING:
    from collections.abc import Sequence

# What a guest never reads. Copyright files stay: they are the licences of what the image holds.
# PostgreSQL's JIT compiler alone would be 130 MB; without its files PostgreSQL goes without.
EXCLUDED = (
    "/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*",
    "/usr/share/i18n/*", "/usr/share/lintian/*", "/usr/share/bash-completion/*",
    "/usr/share/javascript/moment-timezone/*", "/usr/share/sass/*", "/usr/share/zsh/*",
    "/usr/share/bug/*", "/usr/lib/udev/hwdb.d/*", "/usr/lib/udev/hwdb.bin",
    "/usr/lib/x86_64-linux-gnu/perl/*/CORE/*", "/usr/bin/promtool", "/usr/bin/amtool",
    "/usr/lib/x86_64-linux-gnu/libLLVM*", "/usr/lib/llvm-*", "/usr/lib/x86_64-linux-gnu/libz3*",
    "/usr/lib/postgresql/*/lib/llvmjit*", "/usr/lib/postgresql/*/lib/bitcode/*",
)  # fmt: skip
# Scripts for pages. No essential package has any.
SCRIPTS_EXCLUDED = ("/usr/share/javascript/*", "/usr/share/nodejs/*")
# But what pages that the guest serves load: Prometheus' (its templates name them), and the
# portal's. dpkg keeps a directory for what is in it only where a pattern goes on with a wildcard.
SCRIPTS = (
    "bootstrap4/*/bootstrap.min.css", "bootstrap4/*/bootstrap.min.js", "chart.js/*chart.min.js",
    "d3/*d3.min.js", "eonasdan-bootstrap-datetimepicker/*.min.css",
    "eonasdan-bootstrap-datetimepicker/*.min.js", "jquery/*jquery.min.js",
    "moment/*moment.min.js", "moment-timezone/*moment-timezone-with-data.min.js",
    "mustache/*mustache.min.js", "popper.js",
    "rickshaw/*.min.css", "rickshaw/*.min.js",
)  # fmt: skip
# Where links among those lead.
LINKED = (
    "bootstrap/*/css/bootstrap.min.css", "bootstrap/*/js/bootstrap.min.js",
    "popper.js/*dist/popper.min.js",
)  # fmt: skip
INCLUDED = (
    "/usr/share/doc/*/copyright",
    *(f"/usr/share/javascript/{name}" for name in SCRIPTS),
    *(f"/usr/share/nodejs/{name}" for name in LINKED),
)

# A service whose pages are made of links to all kinds of scripts.
SERVING = {"pagure.deb"}

# The machine boots the kernel that lies beside the image, and has virtio devices alone.
KERNEL_EXCLUDED = (
    "boot/*", "usr/share/doc/linux-image-*/changelog*",
    *(f"usr/lib/modules/*/kernel/{folder}" for folder in (
        "arch/x86/kvm", "drivers/ata", "drivers/comedi", "drivers/hid", "drivers/hv",
        "drivers/infiniband", "drivers/md", "drivers/media", "drivers/net/ethernet",
        "drivers/nvdimm", "drivers/nvme", "drivers/scsi", "drivers/soundwire", "drivers/target",
        "drivers/vfio", "drivers/video", "drivers/xen", "fs/btrfs", "fs/cachefiles", "fs/ceph",
        "fs/fscache", "fs/nfs*", "fs/orangefs", "fs/smb", "fs/xfs", "net/ceph", "net/dccp",
        "net/openvswitch", "net/rds", "net/sctp", "net/smc", "net/sunrpc", "net/tipc",
    )),
)  # fmt: skip

# Made at installation: by the clock, at random, or of no use afterwards.
LEFTOVERS = (
    "etc/.pwd.lock", "etc/*-", "etc/ssh/ssh_host_*", "etc/ssl/private/ssl-cert-snakeoil.key",
    "etc/ssl/certs/ssl-cert-snakeoil.pem",
    "var/cache/*/*", "var/lib/apt/lists/*", "var/lib/dpkg/*-old", "var/lib/dpkg/lock*",
    "var/lib/dbus/machine-id", "var/lib/systemd/catalog/database", "var/lib/systemd/random-seed",
    "var/log/*.log", "var/log/apt", "var/log/*tmp", "var/log/lastlog", "var/log/faillog",
    "root/.bash_history", "run/*", "tmp/*", "var/tmp/*",
    "usr/sbin/policy-rc.d", "debs",
)  # fmt: skip


def main() -> None:
    """Build the base."""
    spec_file, out = (Path(word) for word in sys.argv[1:])
    spec = json.loads(spec_file.read_text())
    epoch = int(spec["epoch"])
    root = Path.cwd() / "root"
    env = guest_environment(epoch)
    os.umask(0o022)
    prepare(root)
    debs = stage_debs(root, spec["packages"])
    say("extracting the essential packages")
    essential = [name for name, is_essential in debs if is_essential]
    for name in essential:
        extract_deb(root / "debs" / name, root)
    settle_policies(root)
    say(f"installing {len(debs)} packages")
    # Each essential package counts on the others being there; they are, extracted.
    install(root, essential, env, configure=["--force-depends"])
    rest = [name for name, is_essential in debs if not is_essential]
    install(root, rest, env, excluded=() if SERVING.intersection(rest) else SCRIPTS_EXCLUDED)
    say("adding the kernel")
    out.mkdir()
    add_kernel(root, Path(spec["kernel"]), out / "vmlinuz", env)
    say("cleaning up")
    clean(root)
    clamp_times(root, epoch)
    say("writing the archive")
    archive(root, out / "root.tar", env)


def prepare(root: Path) -> None:
    """Create the root with /usr merged, and the mount points that `run_in` needs."""
    for folder in (
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "usr/lib64",
        "proc",
        "dev",
        "tmp",
        "run",
        "sys",
    ):
        (root / folder).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")


def stage_debs(root: Path, packages: list[dict[str, object]]) -> list[tuple[str, bool]]:
    """Put the packages where dpkg in the root finds them; return names and whether essential."""
    folder = root / "debs"
    folder.mkdir()
    staged = []
    for package in packages:
        name = f"{package['name']}.deb"
        shutil.copyfile(str(package["file"]), folder / name)
        staged.append((name, bool(package["essential"])))
    return staged


def settle_policies(root: Path) -> None:
    """Let no maintainer script start a service, make a database cluster or spend time on fsync."""
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    cluster = root / "etc/postgresql-common/createcluster.conf"
    cluster.parent.mkdir(parents=True)
    cluster.write_text("create_main_cluster = false\n")


def install(
    root: Path, names: list[str], env: dict[str, str], configure: Sequence[str] = (),
    excluded: Sequence[str] = (),
) -> None:  # fmt: skip
    """Install packages with the root's own dpkg: unpack all, then configure all.

    Unpacking ignores dependencies, which come in apt's order anyway; configuring does not, so that
    nothing can be missing in the end. `configure` holds further options for it; `excluded` what is
    not unpacked, besides what never is.
    """
    options = ["--force-unsafe-io", "--force-confdef", "--force-confold"]
    filters = [f"--path-exclude={pattern}" for pattern in (*EXCLUDED, *excluded)]
    filters += [f"--path-include={pattern}" for pattern in INCLUDED]
    files = [f"/debs/{name}" for name in names]
    run_in(root, ["dpkg", *options, *filters, "--force-depends", "--unpack", *files], env)
    run_in(root, ["dpkg", *options, *configure, "--configure", "--pending"], env)


def add_kernel(root: Path, deb: Path, kernel: Path, env: dict[str, str]) -> None:
    """Extract the kernel package, index its modules and put the kernel itself to `kernel`."""
    extract_deb(deb, root)
    version = next((root / "usr/lib/modules").iterdir()).name
    shutil.copyfile(root / f"boot/vmlinuz-{version}", kernel)
    remove(root, KERNEL_EXCLUDED)
    run_in(root, ["depmod", version], env)


def clean(root: Path) -> None:
    """Remove what installation left behind and what must differ from machine to machine."""
    remove(
        root, [*LEFTOVERS, *(pattern.lstrip("/") for pattern in EXCLUDED if "doc/" not in pattern)]
    )
    for package in (root / "usr/share/doc").iterdir():
        if not package.is_symlink():
            remove(package, [path.name for path in package.iterdir() if path.name != "copyright"])
    drop_dangling(root, root / "etc/ssl/certs")
    (root / "etc/machine-id").write_bytes(b"")
    (root / "etc/hostname").write_text("rave\n")
    (root / "etc/resolv.conf").write_bytes(b"")


def drop_dangling(root: Path, folder: Path) -> None:
    """Remove the links in a folder of the root that lead nowhere."""
    for path in folder.iterdir():
        if not path.is_symlink():
            continue
        target = path.readlink()
        goal = root / target.relative_to("/") if target.is_absolute() else folder / target
        if not goal.is_symlink() and not goal.exists():
            path.unlink()


def archive(root: Path, target: Path, env: dict[str, str]) -> None:
    """Write the root as a tar, sorted, with the root's own tar."""
    names = "%d/PaxHeaders/%f"  # without the process id that tar would put there
    with target.open("wb") as stream:
        subprocess.run(
            ["chroot", root, "tar", "-c", "--sort=name", "--numeric-owner", "--format=posix",
             "--one-file-system", f"--pax-option=exthdr.name={names},delete=atime,delete=ctime",
             "--xattrs", "--xattrs-include=security.capability", "-C", "/", "."],
            env=env, stdout=stream, check=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()

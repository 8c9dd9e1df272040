# Debian packages of the guest. A change needs a new lock: rave vm lock-closure --profile P
{
  # In every guest, beside Debian's essential packages and what the profile's services bring.
  foundation = [
    "systemd"
    "systemd-sysv"
    "kmod"
    "e2fsprogs"
    "iproute2"
    "iputils-ping"
    "sudo"
    "openssh-server"
    "nftables"
    "python3"
    "ca-certificates"
    "openssl"
    "procps"
    "acpid"
  ];

  # Extracted, not installed: its maintainer scripts would build an initrd that the guest does not use.
  kernel = "linux-image-cloud-amd64";

  # Extracted for the time of the build alone.
  tools = [ "tcc" "libfaketime" ];

  # Kernel command line; QEMU gets it from boot.json. `lpj`: how often a processor counts in 4 ms to wait for a
  # time. The second one would measure it for a seventh of a second; this is for a counter of 5 GHz, and with a
  # slower one a wait is only longer than asked for. `cgroup_disable=pressure`: the machine's pressure is in
  # /proc/pressure; that of each unit, for which nobody asks, costs time at each switch of tasks.
  cmdline = "root=/dev/vda rw console=ttyS0 quiet loglevel=4 no_timer_check random.trust_cpu=on cryptomgr.notests ipv6.disable=1 tsc=reliable transparent_hugepage=madvise noautogroup cgroup_disable=pressure lpj=20000000";
}

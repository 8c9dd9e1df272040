# Kernel hardening (kernel.org/doc, admin-guide/sysctl). The network settings matter on a machine with one
# interface and no routing.
{
  "dev.tty.ldisc_autoload" = 0;
  "kernel.core_uses_pid" = 1;
  "kernel.dmesg_restrict" = 1;
  "kernel.kexec_load_disabled" = 1;
  "kernel.kptr_restrict" = 2;
  "kernel.perf_event_paranoid" = 3;
  "kernel.sysrq" = 0;
  "kernel.unprivileged_bpf_disabled" = 1;
  "kernel.yama.ptrace_scope" = 2;
  # A guest that panics leaves; `rave vm status` then tells why from the console.
  "kernel.panic" = 1;
  "kernel.panic_on_oops" = 1;
  "fs.protected_fifos" = 2;
  "fs.protected_hardlinks" = 1;
  "fs.protected_regular" = 2;
  "fs.protected_symlinks" = 1;
  "fs.suid_dumpable" = 0;
  "net.core.bpf_jit_harden" = 2;
  "net.ipv4.conf.all.accept_redirects" = 0;
  "net.ipv4.conf.all.accept_source_route" = 0;
  "net.ipv4.conf.all.log_martians" = 1;
  "net.ipv4.conf.all.rp_filter" = 1;
  "net.ipv4.conf.all.secure_redirects" = 0;
  "net.ipv4.conf.all.send_redirects" = 0;
  "net.ipv4.conf.default.accept_redirects" = 0;
  "net.ipv4.conf.default.accept_source_route" = 0;
  "net.ipv4.conf.default.log_martians" = 1;
  "net.ipv4.conf.default.rp_filter" = 1;
  "net.ipv4.conf.default.secure_redirects" = 0;
  "net.ipv4.conf.default.send_redirects" = 0;
  "net.ipv4.icmp_echo_ignore_broadcasts" = 1;
  "net.ipv4.tcp_rfc1337" = 1;
  "net.ipv4.tcp_syncookies" = 1;
  "vm.mmap_min_addr" = 65536;
  # The kernel wakes up twice a second to see whether it should gather free pages, and finds nothing to do.
  "vm.compaction_proactiveness" = 0;
  # What nobody has asked to be on the disk gets there within 45 s instead of 35.
  "vm.dirty_writeback_centisecs" = 1500;
  # Each processor wakes up for its counters once a minute, not each second.
  "vm.stat_interval" = 60;
  # Redis forks to save; PostgreSQL asks for more than it touches.
  "vm.overcommit_memory" = 1;
}

"""Virtual machines: spec, QEMU arguments, lifecycle, readiness and SSH."""

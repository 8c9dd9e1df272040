"""QEMU: its arguments, accelerator, monitor, caps, credentials, and its process."""

"""What systemd is told."""

from __future__ import annotations

import os
import socket


def notify(message: str) -> None:
    """Tell PID 1, as sd_notify(3) does."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(message.encode(), address)

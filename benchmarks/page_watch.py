"""Asks for a machine's page again and again, each time over a new connection, as browsers come: how
long it was not to be had at the most, and how often it was not.
"""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from contextlib import suppress

from rave_cli.machines import store
from rave_cli.machines.qemu import ports

EACH = 0.05  # seconds between two
TIMEOUT = 10.0  # seconds for one answer


class PageWatch(threading.Thread):
    """Asks until `ended` is set."""

    def __init__(self, name: str) -> None:
        super().__init__(daemon=True)
        machine = store.load(name)
        plan = store.plan(machine)
        port = ports.of(machine).get((plan.status_port if plan else None) or 0)
        if port is None:
            raise SystemExit(f"{name} shows no pages")
        self._port, self._host = port, machine.spec.public_host
        self._anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # What is asked is when it answers, and which certificates it shows meanwhile.
        self._anybody.check_hostname = False
        self._anybody.verify_mode = ssl.CERT_NONE
        self.longest, self.failures, self.certificates = 0.0, 0, set[bytes]()
        self.answered, self.ended = threading.Event(), threading.Event()

    def run(self) -> None:
        """Ask."""
        last = None
        while not self.ended.is_set():
            if self._taken():
                now = time.monotonic()
                self.longest = max(self.longest, now - last) if last is not None else 0.0
                last = now
                self.answered.set()
            else:
                self.failures += 1
            time.sleep(EACH)

    def _taken(self) -> bool:
        asked = http.client.HTTPSConnection(
            "127.0.0.1", self._port, timeout=TIMEOUT, context=self._anybody
        )
        with suppress(OSError, http.client.HTTPException):
            asked.request("GET", "/", headers={"Host": self._host})
            found = asked.sock.getpeercert(binary_form=True) if asked.sock else None
            answer = asked.getresponse()
            answer.read()
            if found and answer.status < 500:
                self.certificates.add(found)
                return True
        asked.close()
        return False

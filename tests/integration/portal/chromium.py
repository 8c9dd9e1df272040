"""A headless Chromium, told what to do over two pipes (DevTools Protocol)."""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEIGHT = 640  # of the screen, in pixels
# Its pipes are the descriptors 3 and 4; ours may be there, and so move out of the way first.
HAND = (
    "import os, sys; ends = [os.dup(int(n)) for n in sys.argv[1:3]];"
    " [os.dup2(end, n) for n, end in ((30, ends[0]), (31, ends[1]))];"
    " os.dup2(30, 3); os.dup2(31, 4); os.execv(sys.argv[3], sys.argv[3:])"
)


class Chromium:
    """One page of it."""

    def __init__(self, told: int, tells: int) -> None:
        """Open a page; `told` and `tells` are our ends of its pipes."""
        self._told, self._tells = told, tells
        self._heard, self._count, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.do("Target.createTarget", url="about:blank")["targetId"]
        attached = self.do("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Log", "Network", "Runtime"):
            self.do(f"{domain}.enable")

    def do(self, method: str, **params: Any) -> Any:
        """Carry out a command and return its result."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._told, json.dumps(message).encode() + b"\0")
        while True:
            heard = self._hear()
            if heard.get("id") == self._count:
                assert "error" not in heard, heard
                return heard["result"]
            self.events.append(heard)

    def open(self, address: str, *, width: int, scheme: str = "light", script: bool = True) -> None:
        """Open a page as wide as a screen, and wait until it is all there."""
        self.events.clear()
        self.do("Emulation.setDeviceMetricsOverride", width=width, height=HEIGHT,
                deviceScaleFactor=1, mobile=width < 500)  # fmt: skip
        wanted = [{"name": "prefers-color-scheme", "value": scheme}]
        self.do("Emulation.setEmulatedMedia", features=wanted)
        self.do("Emulation.setScriptExecutionDisabled", value=not script)
        self.do("Page.navigate", url=address)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._hear())

    def ask(self, expression: str) -> Any:
        """Return what an expression of JavaScript's is on the page; None if it is nothing."""
        found = self.do("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"].get("value")

    def picture(self, place: Path) -> None:
        """Put a picture of what the screen shows there."""
        place.write_bytes(base64.b64decode(self.do("Page.captureScreenshot")["data"]))

    @property
    def complaints(self) -> list[str]:
        """What the browser had to say of the page: policies that were broken, files not found."""
        return [
            event["params"]["entry"]["text"]
            for event in self.events
            if event["method"] == "Log.entryAdded"
        ]

    def _hear(self) -> dict[str, Any]:
        until = time.monotonic() + CEILING
        while b"\0" not in self._heard:
            assert select.select([self._tells], [], [], until - time.monotonic())[0], "it hangs"
            piece = os.read(self._tells, 1 << 16)
            assert piece, "it has ended"
            self._heard += piece
        message, _, self._heard = self._heard.partition(b"\0")
        heard: dict[str, Any] = json.loads(message)
        return heard


@contextmanager
def running(program: str, place: Path) -> Iterator[Chromium]:
    """Start one with a profile of its own; it reads descriptor 3 and writes to 4."""
    hears, told = os.pipe()
    tells, says = os.pipe()
    argv = [
        sys.executable, "-c", HAND, str(hears), str(says), program, "--headless=new",
        "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--ignore-certificate-errors", "--hide-scrollbars", f"--user-data-dir={place}",
    ]  # fmt: skip
    process = subprocess.Popen(argv, pass_fds=[hears, says], stderr=subprocess.DEVNULL)
    os.close(hears)
    os.close(says)
    try:
        yield Chromium(told, tells)
    finally:
        process.kill()
        process.wait()
        os.close(told)
        os.close(tells)

"""The web pages of a running machine that this host reaches, from its plan and its real ports."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rave_cli import process
from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rave_cli.profiles.catalog import Plan

# Seconds until a name that nobody answers for counts as one that leads nowhere.
RESOLVES = 3.0

# What opens a page in the user's browser (xdg-utils), and what it needs of our environment.
OPENER = "xdg-open"
DISPLAY = ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_CURRENT_DESKTOP")


@dataclass(frozen=True)
class WebPage:
    """A page of a service, as this host reaches it."""

    service: str
    title: str
    url: str

    @property
    def document(self) -> dict[str, str]:
        """What `--json` shows."""
        return {"service": self.service, "title": self.title, "url": self.url}


def of(plan: Plan, ports: Mapping[int, int], origin: str | None = None) -> tuple[WebPage, ...]:
    """Return the pages of a plan's services.

    A service says where it answers in its health questions; a page is where that port is one that
    leads to this host. Names below `localhost` mean this host, too (RFC 6761, 6.3). One that has a
    site of its own is below the machine's public origin.

    Args:
        plan: what the machine carries.
        ports: guest port -> port of 127.0.0.1.
        origin: the machine's public origin; None if it has none.
    """
    found = []
    for name, service in plan.services.items():
        for check in service.checks:
            url = urlsplit(check.url or "")
            if url.port is not None and url.port in ports:
                address = f"{url.scheme}://{url.hostname}:{ports[url.port]}/"
                found.append(WebPage(name, service.title, address))
        if service.site is not None and origin is not None and plan.status_port in ports:
            address = f"{origin.replace('://', f'://{service.site}.')}/"
            found.append(WebPage(name, service.title, address))
    return tuple(dict.fromkeys(found))


def chosen(pages: Sequence[WebPage], service: str | None) -> tuple[WebPage, ...]:
    """Return the pages of one service, or all.

    Raises:
        RaveError: USAGE if that service has none here.
    """
    found = tuple(page for page in pages if service in (None, page.service))
    if service is not None and not found:
        known = ", ".join(sorted({page.service for page in pages})) or "none has"
        raise RaveError(
            f"no page of {service} is exposed to this host (of these there are: {known})",
            hint="rave vm ssh NAME -- -N -L HOST:localhost:GUEST leads to what is not exposed;"
            " docs/reference/catalog.md has the ports",
            exit_code=ExitCode.USAGE,
        )
    return found


def astray(pages: Sequence[WebPage], seconds: float = RESOLVES) -> tuple[str, ...]:
    """Return the names of pages that no address belongs to, as far as this host knows. Browsers
    know where names below `localhost` lead (RFC 6761, 6.3); a host need not.
    """
    hosts = dict.fromkeys(urlsplit(page.url).hostname or "" for page in pages)
    asked = [host for host in hosts if not f".{host}".endswith(".localhost")]
    known: set[str] = set()

    def ask(host: str) -> None:
        with suppress(OSError, UnicodeError):
            socket.getaddrinfo(host, None)
            known.add(host)

    # A question to a server that is silent cannot be ended: nobody waits for such a thread.
    threads = [threading.Thread(target=ask, args=(host,), daemon=True) for host in asked]
    until = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return tuple(host for host in asked if host not in known)


def show(page: WebPage, environment: Mapping[str, str]) -> None:
    """Open a page in the user's browser.

    Raises:
        RaveError: HOST if there is nothing that opens it.
    """
    display = {name: environment[name] for name in DISPLAY if name in environment}
    done = process.run([OPENER, page.url], timeout=30, env=display)
    if not done.ok:
        raise RaveError(
            f"{OPENER} does not open {page.url}: {' '.join(done.tail(1)) or 'it does not say why'}",
            hint=f"open it by hand: {page.url}",
            exit_code=ExitCode.HOST,
        )

"""Runs in a guest, as root: asks services as a client with the secret of now or with the one of
before, until /run/rotation.stop is there; says how long each was not to be had at the most.

Usage: python3 -I - SECRET... <guest_rotation.py    (bench_rotation.py does it)
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, "/usr/lib/rave")

from rave_guest import plan as plans
from rave_guest.services import canaille
from rave_guest.wire import scram
from rave_guest.wire.nats import Nats, NatsError
from rave_guest.wire.postgres import ServerError
from rave_guest.wire.redis import Redis, RedisError

Plan = dict[str, Any]
Ask = Callable[[Plan, str], bool]

STOP = Path("/run/rotation.stop")
TIMEOUT = 5.0  # seconds for one exchange
EACH = 0.05  # seconds between two


def redis(plan: Plan, password: str) -> bool:
    """Log in, and ask."""
    port = plans.port_of(plan, "redis", "redis")
    with suppress(OSError, ValueError, RedisError), Redis(TIMEOUT, port) as asked:
        asked.ask("AUTH", password)
        return bool(asked.ask("PING") == "PONG")
    return False


def nats(plan: Plan, password: str) -> bool:
    """Log in."""
    user, port = plan["facts"]["nats"]["user"], plans.port_of(plan, "nats", "client")
    with suppress(OSError, ValueError, NatsError):
        Nats(TIMEOUT, user=user, password=password, port=port).close()
        return True
    return False


def client(secret: str) -> Ask:
    """Show the secret of a client of single sign-on, as a service does for which somebody signs in:
    what is refused then is the code, which is none.
    """

    def ask(plan: Plan, value: str) -> bool:
        port = plans.port_of(plan, "canaille", "web")
        name = canaille.client_of(plan, secret)
        with suppress(OSError, ValueError):
            return canaille.taken(port, name, value)
        return False

    return ask


def role(name: str) -> Ask:
    """Log in as a role of PostgreSQL."""

    def ask(plan: Plan, password: str) -> bool:
        entry = next(one for one in plan["databases"] if one["role"] == name)
        port = plans.port_of(plan, "postgresql", "postgresql")
        with suppress(OSError, ValueError, ServerError):
            scram.log_in(name, entry["name"] or "postgres", password, TIMEOUT, port)
            return True
        return False

    return ask


ASKED = {
    "redis/password": redis,
    "nats/password": nats,
    "database/prometheus-password": role("prometheus"),
    "oidc/smoke-client-secret": client("oidc/smoke-client-secret"),
}


class Watch(threading.Thread):
    """Asks one service until the end."""

    def __init__(self, plan: Plan, name: str, ask: Ask) -> None:
        super().__init__(daemon=True)
        self.plan, self.name_, self.ask = plan, name, ask
        self.known: list[str] = []
        self.longest, self.failures, self.asked = 0.0, 0, 0
        self.answered = threading.Event()

    def run(self) -> None:
        """Ask with what is in force, else with what was."""
        path = plans.secret(self.plan, self.name_)
        last = None
        while not STOP.exists():
            with suppress(OSError):
                value = Path(path).read_text().rstrip("\n")
                if value not in self.known:
                    self.known.insert(0, value)
            taken = any(self.ask(self.plan, value) for value in self.known[:2])
            now = time.monotonic()
            self.asked += 1
            if taken:
                if last is not None:
                    self.longest = max(self.longest, now - last)
                last = now
                self.answered.set()
            else:
                self.failures += 1
            time.sleep(EACH)


def main() -> None:
    """Watch all, and say what was seen."""
    STOP.unlink(missing_ok=True)
    plan = json.loads(Path("/usr/lib/rave/plan.json").read_text())
    there = {name: ASKED[name] for name in sys.argv[1:]}
    watches = [Watch(plan, name, ask) for name, ask in there.items()]
    for watch in watches:
        watch.start()
    for watch in watches:
        watch.answered.wait(60)
    print("ready", flush=True)
    for watch in watches:
        watch.join()
    found = {
        watch.name_: {"seconds": round(watch.longest, 3), "asked": watch.asked,
                      "refused": watch.failures}
        for watch in watches
    }  # fmt: skip
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()

"""A stand-in for QEMU that lives for milliseconds: opens monitors, plays a script, obeys orders.

Its behaviour is read from behaviour.json beside it (conftest.Behaviour).
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
import time
from base64 import b64decode
from contextlib import suppress
from pathlib import Path
from typing import Any

ARGV = sys.argv[1:]
FATAL = Path(sys.argv[0]).with_name("fatal")
BEHAVIOUR = json.loads(Path(sys.argv[0]).with_name("behaviour.json").read_text())


def option(prefix: str, key: str) -> str:
    """Return `key` of the option value that starts with `prefix`."""
    value = next(word for word in ARGV if word.startswith(prefix))
    return {name: text for name, _, text in (pair.partition("=") for pair in value.split(","))}[key]


def credential(name: str) -> str:
    """Return a credential as the guest's systemd would take it from SMBIOS."""
    for word in ARGV:
        if word.startswith("type=11,path="):
            text = Path(word.removeprefix("type=11,path=")).read_text()
            key, _, value = text.removeprefix("io.systemd.credential.binary:").partition("=")
            if key == name:
                return b64decode(value).decode()
    raise SystemExit(f"no credential {name}")


def listen(path: str) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(4)
    return server


def perhaps_die(when: str) -> None:
    """Die before or after the n-th order from when a test has written both to FATAL."""
    try:
        left, chosen = FATAL.read_text().split()
    except FileNotFoundError:
        return
    if int(left) == 0 and when == chosen:
        FATAL.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    if when == "after":
        FATAL.write_text(f"{int(left) - 1} {chosen}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Usernet:
    """The table of forwards; nothing listens on those that are added."""

    def __init__(self, instance: str) -> None:
        ports = BEHAVIOUR["each"].get(instance, BEHAVIOUR["ports"])
        self.rows = [("127.0.0.1", host, int(guest)) for guest, host in ports.items()]

    def obey(self, command: str) -> str:
        name, _, rest = command.partition(" net0 ")
        if name == "hostfwd_add":
            address, host, guest = rest.removeprefix("tcp:").replace("-", "").split(":")
            self.rows.append((address, int(host) or free_port(), int(guest)))
        elif name == "hostfwd_remove":
            address, host = rest.removeprefix("tcp:").split(":")
            self.rows = [row for row in self.rows if row[:2] != (address, int(host))]
        return "" if name.startswith("hostfwd") else self.table()

    def table(self) -> str:
        head = "Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ"
        rows = [
            f"  TCP[HOST_FORWARD]  12       {address} {host:5}  10.0.2.15 {guest:5}     0     0"
            for address, host, guest in self.rows
        ]
        return "\r\n".join(["Hub -1 (net0):", f"  {head}", *rows, ""])


# Seconds that a boot waits for somebody who listens.
ALONE = 5.0


class Fake:
    """One run of the stand-in."""

    def __init__(self) -> None:
        self.instance = credential("rave.instance-id")
        # What the guest calls itself; one that was restored, as its template did.
        self.held = self.instance
        if "-incoming" in ARGV:
            remembered = Path(sys.argv[0]).with_name("instance")
            self.held = remembered.read_text() if remembered.exists() else self.instance
        end = option("pipe,id=console", "path")
        self.console = Path(f"{end}.out").open("r+b", buffering=0)  # noqa: SIM115
        self.keys = os.open(f"{end}.in", os.O_RDWR | os.O_NONBLOCK)
        self.reports = Path(option("file,id=ready", "path")).open("wb", buffering=0)  # noqa: SIM115
        self.steps = list(BEHAVIOUR["steps"])
        self.wake = 0.0
        self.alone_until = time.monotonic() + ALONE
        self.clients: list[socket.socket] = []
        self.heard = False
        self.spoke = False
        self.status = BEHAVIOUR["status"]
        self.usernet = Usernet(self.instance)
        self.given = -1
        self.migration = ""
        self.leaves_shared = False
        if "-incoming" in ARGV:
            self.steps, self.status = [], "inmigrate"
        self.poll = selectors.DefaultSelector()
        self.poll.register(self.keys, selectors.EVENT_READ, self.echo)
        for chardev in ("qmp", "events"):
            server = listen(option(f"socket,id={chardev}", "path"))
            self.poll.register(server, selectors.EVENT_READ, self.accept)
        if BEHAVIOUR["channel"]:
            server = listen(option("socket,id=command", "path"))
            self.poll.register(server, selectors.EVENT_READ, self.serve)

    def serve(self, server: socket.socket) -> None:
        """Be the guest's end of the command channel until its host leaves."""
        client, _ = server.accept()
        # Whoever leaves before they have heard everything ends nothing but this.
        with suppress(OSError), client, client.makefile("rwb") as lines:
            for line in lines:
                word, _, rest = line.strip().partition(b" ")
                if word == b"run" and BEHAVIOUR["channel"] == "rehearses":
                    lines.write(b"exit 0\n")
                    lines.flush()
                elif word not in (b"hello", b"hold", b"become", b"wake"):
                    lines.write(b"refused there are no programs here\n" if word else b"")
                    lines.flush()
                else:
                    answer = self.answer(word.decode(), json.loads(rest))
                    lines.write(answer.encode() + b"\n")
                    lines.flush()

    def answer(self, verb: str, given: dict[str, Any]) -> str:
        if verb == "hello":
            own = {"window": 65536, "own": ["hold", "become", "wake"], "instance": self.held}
            return f"hello {json.dumps(given | own)}"
        if BEHAVIOUR["channel"] == f"no {verb}":
            return f"refused {verb} (freeze): something moves"
        Path(sys.argv[0]).with_name(f"{verb}.json").write_text(json.dumps(given))
        if verb == "become":
            self.held, self.steps = given["instance"], list(BEHAVIOUR["steps"][-1:])
            self.wake = time.monotonic() + BEHAVIOUR["wakes"]
        return 'did {"behind": 5.0}'

    def accept(self, server: socket.socket) -> None:
        client, _ = server.accept()
        self.clients.append(client)
        self.poll.register(client, selectors.EVENT_READ, self.hear)
        time.sleep(BEHAVIOUR["slow"])
        if BEHAVIOUR["greet"]:
            self.say(client, {"QMP": {"version": {}, "capabilities": []}})

    def echo(self, keys: int) -> None:
        """Print what is typed at the console, as a guest's terminal does."""
        self.console.write(os.read(keys, 4096))

    def say(self, client: socket.socket, message: dict[str, Any]) -> None:
        with suppress(OSError):
            client.sendall(json.dumps(message).encode() + b"\r\n")

    def hear(self, client: socket.socket) -> None:
        try:
            data, given, _, _ = socket.recv_fds(client, 65536, 1)
        except ConnectionResetError:
            # It left with something unread, which is an end like any other.
            data, given = b"", []
        self.given = given[0] if given else self.given
        if not data:
            self.poll.unregister(client)
            self.clients.remove(client)
            client.close()
        for line in data.splitlines():
            request = json.loads(line)
            perhaps_die("before")
            self.obey(client, request["execute"], request.get("arguments", {}))
            perhaps_die("after")

    def migrate(self, command: str) -> None:
        """Save or load a state, which is a few bytes."""
        self.migration = BEHAVIOUR["migration"]
        if self.migration == "completed" and command == "migrate":
            try:
                os.write(self.given, b"shared" if self.leaves_shared else b"memory")
            except OSError:
                self.migration = "failed"
                return
            Path(sys.argv[0]).with_name("instance").write_text(self.instance)
            self.status = "postmigrate"
        if self.migration == "completed" and command == "migrate-incoming":
            whole = os.read(self.given, 100) == (b"shared" if self.leaves_shared else b"memory")
            self.status, self.migration = "paused", "completed" if whole else "failed"

    def obey(self, client: socket.socket, command: str, arguments: dict[str, Any]) -> None:
        if command == "block_resize":
            node = "data-file" if arguments["node-name"] == "data0" else "file0"
            with Path(option(f"driver=file,node-name={node}", "filename")).open("a") as disk:
                disk.write(str(arguments))
        if command == "migrate-set-capabilities":
            (capability,) = arguments["capabilities"]
            self.leaves_shared = capability["state"]
        self.status = {"cont": "running", "stop": "paused"}.get(command, self.status)
        if command in ("migrate", "migrate-incoming", "migrate_cancel"):
            self.migrate(command)
        human = arguments.get("command-line", "")
        served = BEHAVIOUR["channel"] or BEHAVIOUR["command"]
        answers = {
            "human-monitor-command": self.usernet.obey(human) if human else "",
            "query-chardev": [{"label": "command", "frontend-open": bool(served)}],
            "query-migrate": {"status": self.migration},
            "query-version": {
                "qemu": dict(zip(("major", "minor", "micro"), BEHAVIOUR["version"], strict=True)),
                "package": "fake",
            },
            "query-status": {
                "status": self.status,
                "running": self.status == "running",
            },
        }
        # A machine that was made of a template has none.
        if command == "query-balloon" and not any("virtio-balloon" in word for word in ARGV):
            self.say(client, {"error": {"class": "DeviceNotActive", "desc": "No balloon device"}})
        else:
            self.say(client, {"return": answers.get(command, {})})
        self.heard |= command == "qmp_capabilities"
        if command == "quit" and BEHAVIOUR["quit"]:
            raise SystemExit(0)
        if command == "system_powerdown" and BEHAVIOUR["powerdown"]:
            if self.spoke:
                self.report({"stage": "stopping"})
            raise SystemExit(0)

    def report(self, value: dict[str, Any]) -> None:
        self.spoke = True
        line = {"v": 1, "instance": self.instance, "uptime": 1.5} | value
        self.reports.write(json.dumps(line).encode() + b"\n")

    def step(self) -> None:
        ((kind, value),) = self.steps.pop(0).items()
        if kind == "console":
            self.console.write(value.encode())
        elif kind == "report":
            self.report(value)
        elif kind == "event":
            for client in self.clients:
                self.say(client, {"event": value["name"], "data": value.get("data", {})})
        elif kind == "sleep":
            self.wake = time.monotonic() + value
        elif kind == "until" and not Path(value).exists():
            self.steps.insert(0, {kind: value})
            self.wake = time.monotonic() + 0.01
        elif kind == "exit":
            raise SystemExit(value)
        elif kind == "kill":
            os.kill(os.getpid(), value)

    def run(self) -> None:
        while True:
            # Steps wait for the first client, so that a test sees the monitor before the boot; not
            # for ever: who started this may have been killed, and who joins comes to no monitor.
            waited = self.heard or time.monotonic() >= self.alone_until
            busy = waited and self.steps and time.monotonic() >= self.wake
            for key, _ in self.poll.select(0 if busy else 0.005):
                key.data(key.fileobj)
            if busy:
                self.step()


if not BEHAVIOUR["sigterm"]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.stderr.write(BEHAVIOUR["stderr"])
sys.stderr.flush()
if BEHAVIOUR["dies"] is not None:
    sys.exit(BEHAVIOUR["dies"])
Fake().run()

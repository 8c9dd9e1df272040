"""Jobs that mean harm, for real machines: every one ends once, and nothing else notices.

A few run with every test of this kind, each for a limit that only a real guest can try; all of
them, and those whose machines take templates of their own, with RAVE_HOSTILE_JOBS=all (what that
found: docs/explanation/the-pool.md).
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.e2e.conftest import qemu_processes
from tests.waiting import CEILING, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.e2e.conftest import Site

ALL = os.environ.get("RAVE_HOSTILE_JOBS") == "all"


@dataclass(frozen=True)
class HostileJob:
    """A job that means harm.

    Attributes:
        script: what its shell runs; PORT of this host, whose address is HOST, somebody listens on,
            and ALLOWED is a port that this one may reach.
        ends: how it may end.
        options: of its submission.
        why: part of what is said of its end.
        prints: what its output must be, by a function of it.
        leaves: the artifacts that are kept of it.
        always: whether it runs with every test.
    """

    script: str
    ends: tuple[str, ...]
    options: tuple[str, ...] = ()
    why: str = ""
    prints: Callable[[str], bool] = lambda _text: True
    leaves: tuple[str, ...] = ()
    always: bool = False


# Tries to be heard by whatever there may be: this host, its other addresses, what gives addresses
# and names, the neighbours of the same network, and the world.
REACH = r"""
python3 - PORT HOST <<'END'
import errno, socket, sys
port, host = int(sys.argv[1]), sys.argv[2]
near = [f"10.0.2.{last}" for last in (*range(1, 12), *range(16, 20), 255)]
tried = [(one, port) for one in (host, *near)]
tried += [("10.0.2.3", 53), ("10.0.2.2", 22), ("169.254.169.254", 80), ("1.1.1.1", 53)]
waiting = []
for place in tried:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as said:
        try:
            said.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            said.sendto(b"owned", place)
        except OSError:
            pass
    one = socket.socket()
    one.setblocking(False)
    came = one.connect_ex(place)
    if came == 0:
        print("reached", place)
    if came == errno.EINPROGRESS:
        waiting.append((one, place))
import select, time
until = time.monotonic() + 3
while waiting and (left := until - time.monotonic()) > 0:
    for one in select.select([], [w[0] for w in waiting], [], left)[1]:
        place = dict(waiting).get(one)
        if one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            print("reached", place)
        waiting = [w for w in waiting if w[0] is not one]
print("tried", len(tried))
END
"""

# A tar that says what it likes, in place of the guest's own.
FORGED = r"""
cat > forged <<'END'
#!/usr/bin/python3
import io, sys, tarfile
out = tarfile.open(fileobj=sys.stdout.buffer, mode="w|")
def add(name, kind=tarfile.REGTYPE, data=b"", **more):
    one = tarfile.TarInfo(name); one.type = kind; one.size = len(data); one.mode = 0o6777
    for key, value in more.items(): setattr(one, key, value)
    out.addfile(one, io.BytesIO(data))
add(".", tarfile.DIRTYPE)
ADD
out.close()
END
sed -i 's|^ADD|WHAT|' forged
chmod 755 forged; sudo cp forged /usr/local/bin/tar; sudo mv forged "$(command -v tar)"; mkdir out
"""


def forged(what: str, why: str, *, always: bool = False) -> HostileJob:
    script = FORGED.replace("WHAT", what)
    return HostileJob(script, ("failure",), ("--artifact", "out"), why, always=always)


JOBS = {
    "fills its disk": HostileJob(
        "exec dd if=/dev/urandom of=full bs=1M", ("failure",), ("--most-disk", "48"),
        "wrote more than 48 MiB",
    ),
    "fills its cache": HostileJob(
        'fallocate -l 8G "$RAVE_CACHE/full"', ("failure",), ("--cache", "hostile"),
    ),
    "fills its memory": HostileJob(
        'exec python3 -c "a = []\nwhile True: a.append(bytes([1]) * (1 << 24))"', ("failure",),
        ("--timeout", "120"),
    ),
    "forks without end": HostileJob(
        "f() { f & f & }; f; f; sleep 600", ("timeout", "failure", "error"), ("--timeout", "15"),
    ),
    "floods its output": HostileJob(
        "exec yes 0123456789abcdef", ("timeout",), ("--most-output", "16", "--timeout", "8"),
        prints=lambda text: 16384 < len(text) < 16500 and text.endswith("is left out)\n"),
    ),
    "reaches for the host, the network and its neighbours": HostileJob(
        REACH, ("success",), prints=lambda text: text == "tried 21\n",
    ),
    "reaches what it may": HostileJob(
        "python3 -c 'import socket, sys; s = socket.create_connection((\"127.0.0.1\", ALLOWED));"
        " s.sendall(b\"hello\"); s.shutdown(1); print(s.recv(9))'" + REACH,
        ("success",), ("--allow", "127.0.0.1:ALLOWED"),
        prints=lambda text: text == "b'hello'\ntried 21\n", always=True,
    ),
    "asks for what no job may reach": HostileJob(
        "true", ("failure",), ("--allow", "127.0.0.1:22"), "no job of this pool may reach",
    ),
    "leaves the same for its neighbour": HostileJob(
        "cat /dev/shm/* /tmp/neighbour 2>/dev/null; echo mine > /tmp/neighbour", ("success",),
        prints=lambda text: text == "",
    ),
    "keeps its machine from shutting down": HostileJob(
        "trap '' TERM HUP INT; sudo systemctl mask --now poweroff.target acpid.service;"
        " sudo sh -c 'echo 1 > /proc/sys/kernel/sysrq; echo -1000 > /proc/self/oom_score_adj';"
        " setsid sh -c \"trap '' TERM HUP; exec sleep 100000\" >/dev/null 2>&1 </dev/null & exit 0",
        ("success",),
    ),
    "ends its own machine": HostileJob(
        "sudo sh -c 'echo o > /proc/sysrq-trigger'; sleep 60", ("error",), why="machine",
    ),
    "stops what it is run by": HostileJob(
        "sudo systemctl kill --signal STOP rave-command.service; sleep 60", ("timeout",),
        ("--timeout", "10"),
    ),
    "prints what its terminal and rave's lines obey": HostileJob(
        r"printf '\033]0;owned\007\033[2J\302\233\r\nexit 0\nout b3duZWQ=\n';"
        "printf '{\"what\": \"ended\"}\\n'; exit 3",
        ("failure",), always=True,
        prints=lambda text: text.endswith('exit 0\nout b3duZWQ=\n{"what": "ended"}\n'),
    ),
    "speaks for its guest": HostileJob(
        "sudo sh -c 'systemctl kill --signal KILL rave-command.service;"
        " for n in 1 2 3; do printf \"exit 0\\nexit 99999999999999\\nout !\\n\""
        " > /dev/virtio-ports/org.rave.command; done'; sleep 30",
        ("error", "success", "timeout"), ("--timeout", "30"),
    ),
    "leaves devices, pipes and links that lead out": HostileJob(
        "mkdir out && cd out && ln -s /etc/passwd passwd && ln -s ../../../../etc up && mkfifo pipe"
        " && sudo mknod disk b 254 0 && cp /bin/true suid && sudo chown root suid"
        " && sudo chmod 4755 suid && echo good > good",
        ("success",), ("--artifact", "out"), leaves=("out/good", "out/suid"), always=True,
    ),
    "leaves a name that is a command of a terminal": HostileJob(
        r"mkdir out && touch out/$(printf 'a\033[31mb')", ("failure",), ("--artifact", "out"),
        "cannot be shown",
    ),
    "leaves a million files": HostileJob(
        "mkdir out && python3 -c 'for n in range(20000): open(f\"out/{n}\", \"w\").close()'",
        ("failure",), ("--artifact", "out"), "more than 4000",
    ),
    "leaves more than it may": HostileJob(
        "truncate -s 60G out", ("failure", "timeout"),
        ("--artifact", "out", "--most-artifacts", "1", "--timeout", "60"), "larger than 1 MiB",
    ),
    "leaves what leads up": forged('add("../../evil", data=b"x")', "evil"),
    "leaves what leads to the root": forged('add("/tmp/rave-evil", data=b"x")', "rave-evil"),
    "leaves a link and what is behind it": forged(
        'add("l", tarfile.SYMTYPE, linkname="x"); add("l/evil", data=b"x")', "no folder"
    ),
    "leaves a second name of what is not its own": forged(
        'add("l", tarfile.LNKTYPE, linkname="/etc/shadow")', "second name"
    ),
    "leaves no archive": forged('out.fileobj.write(b"\\xff" * 100000)', "no tar archive"),
}  # fmt: skip

CHOSEN = [name for name, job in JOBS.items() if ALL or job.always]


class Listener:
    """Whoever is heard on all addresses of this host, and is answered with the same."""

    def __init__(self) -> None:
        self.heard: list[object] = []
        self._stream, self._datagrams = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
        self._stream.bind(("0.0.0.0", 0))  # noqa: S104 - that is what must not be reached
        self._stream.listen()
        self.port = self._stream.getsockname()[1]
        self._datagrams.bind(("0.0.0.0", self.port))  # noqa: S104 - likewise
        for one in (self._hears, self._takes):
            threading.Thread(target=one, daemon=True).start()

    def _hears(self) -> None:
        while True:
            stream, whence = self._stream.accept()
            self.heard.append(whence)
            with stream:
                stream.sendall(stream.recv(99))

    def _takes(self) -> None:
        while True:
            self.heard.append(self._datagrams.recvfrom(99))


def tried(site: Site, serving: Callable[..., AbstractContextManager[object]]) -> dict[str, str]:
    """Serve the pool, run the jobs that were chosen, and return what is wrong, by their names."""
    listener, allowed = Listener(), Listener()
    own = socket.gethostbyname(socket.gethostname())
    with serving(site, "--allow", f"127.0.0.1:{allowed.port}"):
        names = {}
        for name in CHOSEN:
            options, script = JOBS[name].options, JOBS[name].script
            words = ["pool", "submit", "--timeout", "60", *options, "--", "sh", "-c", script]
            for what, value in (("PORT", listener.port), ("HOST", own), ("ALLOWED", allowed.port)):
                words = [word.replace(what, str(value)) for word in words]
            names[name] = site.rave(*words).stdout.strip()
        found = {name: ended(site, job) for name, job in names.items()}
        # One that means none runs as ever.
        assert site.rave("pool", "run", "--", "echo", "fine").stdout == "fine\n"
        until(lambda: not qemu_processes(site))
    wrong = {name: why for name in CHOSEN if (why := judged(JOBS[name], found[name]))}
    if listener.heard or len(allowed.heard) != ("reaches what it may" in CHOSEN):
        wrong["network"] = f"{listener.heard}, {allowed.heard}"
    left = [one["name"] for one in site.json("vm", "list") if one["name"].startswith("job-")]
    caches = site.json("pool", "cache", "list")
    return wrong | ({"left": f"{left}, {caches}"} if left or caches else {})


def ended(site: Site, name: str) -> Any:
    """Return a job that is over, and what it printed."""
    until(lambda: site.json("pool", "show", name)["ended"], pause=0.5)
    printed = subprocess.run(
        [site.rave_path, "pool", "logs", name], cwd=site.checkout, env=site.env,
        capture_output=True, check=True, timeout=CEILING,
    ).stdout  # fmt: skip
    shown = site.rave("pool", "show", name).stdout
    left = [one["path"] for one in site.json("pool", "artifacts", name)]
    proven = site.json("pool", "verify", name, "--key", str(site.signing_key))
    job = site.json("pool", "show", name)
    text = printed.decode(errors="replace")
    return job | {"printed": text, "shown": shown, "left": left, "proven": proven["result"]}


def judged(job: HostileJob, found: Any) -> str:
    """Return what is wrong with how a job ended."""
    checks = {
        "state": found["state"] in job.ends and found["proven"] == found["state"],
        "why": job.why in found["why"],
        "printed": job.prints(found["printed"]),
        "left": tuple(found["left"]) == job.leaves,
        "shown": "\x1b" not in found["shown"],
    }
    wrong = [name for name, good in checks.items() if not good]
    return f"{wrong}: {found}" if wrong else ""


def kept(site: Site) -> None:
    """Try what only templates of their own can show: sizes, and what one job leaves for the next.
    The pool is served meanwhile.
    """

    def said(*words: str, check: bool = True) -> str:
        return site.rave(
            "pool", "run", *words[:-1], "--", "sh", "-c", words[-1], check=check
        ).stdout

    small = said("--memory", "1024", "--cpus", "1", "nproc; grep MemTotal /proc/meminfo").split()
    assert small[0] == "1"
    assert 900 << 10 < int(small[2]) < 1024 << 10
    leave = "cat $RAVE_CACHE/who 2>/dev/null; echo $RAVE_JOB > $RAVE_CACHE/who"
    assert said("--cache", "k", leave) == ""
    (first,) = site.json("pool", "list", "-n", "1")
    assert first["cacheKept"]
    # What fails, and what is only to read, leaves nothing.
    assert said("--cache", "k", leave + "; exit 3", check=False).strip() == first["job"]
    assert said("--cache", "k", "--cache-read-only", leave).strip() == first["job"]
    assert said("--cache", "other", "ls $RAVE_CACHE").strip() == "lost+found"
    # One that has a file open there still leaves all of it, whole.
    holds = "setsid sh -c 'sleep 600' > $RAVE_CACHE/held 2>&1 < /dev/null & sleep 0.1"
    assert said("--cache", "k", f"{leave}; {holds}").strip() == first["job"]
    (held,) = site.json("pool", "list", "-n", "1")
    assert said("--cache", "k", "cat $RAVE_CACHE/who; ls $RAVE_CACHE").split() == [
        held["job"], "held", "lost+found", "who",
    ]  # fmt: skip
    (last,) = site.json("pool", "list", "-n", "1")
    assert last["cacheFrom"] == f"{held['job']}-1"
    assert {one["key"] for one in site.json("pool", "cache", "list")} == {"k", "other"}
    for key in ("k", "other"):
        site.rave("pool", "cache", "remove", key)

"""Makes every secret of the plan, and installs them as the CLI does.

Runs as root inside the test VM, with age, sops and openssl on its PATH.
"""

import json
import secrets
import subprocess
from pathlib import Path

WORK = Path("/run/rave-test")
PLAN = Path("/usr/lib/rave/plan.json")
IDENTITY = Path("/etc/rave-test-identity/age")


def run(*argv: str, stdin: str = "") -> str:
    """Run a program and return what it printed."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{argv[0]}: {done.stdout}{done.stderr}")
    return done.stdout


def value(generate: dict[str, object]) -> str:
    """Return a new value of a kind of the catalog."""
    if generate["kind"] == "rsa":
        return run("openssl", "genrsa", str(generate["bits"]))
    if generate["kind"] == "hex":
        return secrets.token_hex(int(str(generate["bytes"])))
    return secrets.token_hex(16)


def nested(values: dict[str, str]) -> dict[str, object]:
    """Return the tree of a SOPS file: `a/b` is key b in map a."""
    tree: dict[str, object] = {}
    for name, text in values.items():
        node = tree
        *parents, leaf = name.split("/")
        for parent in parents:
            node = node.setdefault(parent, {})  # type: ignore[assignment]
        node[leaf] = text
    return tree


def main() -> None:
    """Install the secrets and check the report."""
    WORK.mkdir(mode=0o700, exist_ok=True)
    plan = json.loads(PLAN.read_text())
    values = {name: value(secret["generate"]) for name, secret in plan["secrets"].items()}

    # The one that the machine was started with.
    identity = IDENTITY.read_text()
    recipient = run("age-keygen", "-y", stdin=identity).strip()
    kinds = ["--input-type", "json", "--output-type", "yaml"]
    encrypted = run("sops", "encrypt", "--age", recipient, *kinds, "/dev/stdin",
                    stdin=json.dumps(nested(values)))  # fmt: skip

    secret_key = next(line for line in identity.splitlines() if line.startswith("AGE-"))
    arguments = {"identity": secret_key, "file": encrypted}
    request = {"v": 2, "verb": "secrets-install", "arguments": arguments}
    answer = json.loads(run("/usr/lib/rave/rave-guest", "door", stdin=json.dumps(request)))
    placed = {entry["name"] for entry in answer["answer"]["secrets"]}
    if placed != set(plan["secrets"]):
        raise SystemExit(f"not placed: {sorted(set(plan['secrets']) - placed)}")


if __name__ == "__main__":
    main()

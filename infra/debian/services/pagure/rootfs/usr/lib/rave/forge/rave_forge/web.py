"""Serves Pagure with the secrets that are in force."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pagure
from pagure.config import config
from pagure.flask_app import create_app
from pagure.lib import model, model_base
from pagure.ui import clone
from waitress import create_server

from rave_forge import accounts, database, hooks, keys, logout, schema
from rave_forge.systemd import notify

LOOPBACK = "127.0.0.1"
FORWARDED = {"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"}
TOKEN = Path("/run/secrets/pagure/token")
FOLDERS = (
    "GIT_FOLDER", "REMOTE_GIT_FOLDER", "ATTACHMENTS_FOLDER", "UPLOAD_FOLDER_PATH",
    "MIRROR_SSHKEYS_FOLDER",
)  # fmt: skip


def end(*_: object) -> None:
    """End. Requests that are under way still get their answer: waitress waits 5 s for them."""
    raise SystemExit


def main(port: str) -> None:
    """Serve until the end."""
    hooks.keep()
    state = Path(os.environ["STATE_DIRECTORY"])
    for name in FOLDERS:
        Path(config[name]).mkdir(exist_ok=True)
    # What is pushed goes to the disk: Pagure would keep it in memory until all of it is there.
    tempfile.tempdir = str(state / "tmp")
    Path(tempfile.tempdir).mkdir(exist_ok=True)
    clone.tempfile = SimpleNamespace(SpooledTemporaryFile=tempfile.TemporaryFile)
    # Pagure 5.14.1 asks whoever shows a token for what only those have who have signed in.
    model.User.can_create = True
    database.wait(config["DB_URL"])
    schema.prepare(config["DB_URL"], config["ACLS"], pagure.__version__, state / "schema")
    session = model_base.create_session(config["DB_URL"])
    accounts.keep(session, config["ACLS"], TOKEN.read_text().strip())
    if key := config["RAVE_WEBHOOK_KEY"]:
        keys.keep(session, key)
    session.remove()
    app = create_app()
    logout.serve(app)
    server = create_server(
        app,
        host=LOOPBACK,
        port=int(port),
        # One makes a project or takes a push, which wait for others.
        threads=4,
        # nginx, on this machine, says who asked and by which name.
        trusted_proxy=LOOPBACK,
        trusted_proxy_headers=FORWARDED,
        ident=None,
    )
    signal.signal(signal.SIGTERM, end)
    notify("READY=1")
    server.run()
    # Nothing is left to be put away, and taking its modules apart takes seconds under emulation.
    os._exit(0)

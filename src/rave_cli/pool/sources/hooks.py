"""Hooks: what forges send, proven, and on the disk before they are told that it is.

Whoever cannot prove that they are a source's forge hears one answer, whatever is wrong.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from rave_cli.pool.sources.keys import SourceSecrets
from rave_cli.pool.sources.ledger import open_ledger
from rave_cli.pool.sources.revision import repository, told
from rave_cli.pool.sources.source import SourcesFile
from rave_platform.domain import normalisation, signatures
from rave_platform.domain.events import Provider
from rave_platform.domain.payloads import reading
from rave_platform.domain.payloads.reading import MalformedPayloadError
from rave_platform.domain.ratelimit import Bucket, Rate, draw
from rave_platform.domain.signatures import NotAuthentic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rave_cli.pool.sources.ledger import RevisionLedger
    from rave_cli.pool.sources.source import Forge, ForgeSource
    from rave_platform.domain.signatures import Authentic, WebhookRequest

log = logging.getLogger("rave.pool.sources")

PROVIDERS: Mapping[Forge, Provider] = MappingProxyType({
    "gitlab": Provider.GITLAB, "github": Provider.GITHUB, "gitea": Provider.GITEA,
    "forgejo": Provider.GITEA, "pagure": Provider.PAGURE,
})  # fmt: skip

# Bytes of a hook: a push of GitHub's with 2,048 commits has some; what is larger, the poll finds.
MOST_BODY = 4 << 20

# Hooks of one source.
RATE = Rate(per_second=20.0, burst=300)

# Refusals that the log has of one source: whoever guesses must not fill it.
TOLD = Rate(per_second=0.1, burst=10)


@dataclass(frozen=True)
class HookAnswer:
    """What a sender is told: a status of HTTP, a word, and after how many seconds to try again."""

    status: int
    said: str
    wait: int = 0


# To whoever is not a source's forge, and of whom nothing was done.
REFUSED = HookAnswer(401, "refused")


@dataclass
class HookIntake:
    """Takes hooks in, in a thread of its own that has the ledger open."""

    sources: SourcesFile = field(default_factory=SourcesFile)
    keys: SourceSecrets = field(default_factory=SourceSecrets)
    _buckets: dict[str, Bucket] = field(default_factory=dict)
    _thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, "hooks of the pool's API")
    )
    _open: ExitStack = field(default_factory=ExitStack)
    _ledger: RevisionLedger | None = None
    # What a hook for no source is held against: it must not take less time.
    _nobodys: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    async def take(self, name: str, request: WebhookRequest) -> HookAnswer:
        """Take a hook in; it is on the disk when this returns with a status below 300.

        Raises:
            RaveError: HOST if it cannot be kept, or the sources cannot be read.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._take, name, request)

    def close(self) -> None:
        """Let what was begun come to its end, and close the ledger."""
        self._thread.submit(self._open.close)
        self._thread.shutdown()

    def _take(self, name: str, request: WebhookRequest) -> HookAnswer:
        source, now = self.sources.all().get(name), time.time()
        scheme = None if source is None else self.keys.scheme(source)
        proof = signatures.authenticate(request, scheme or signatures.github((self._nobodys,)), now)
        if source is None or scheme is None or isinstance(proof, NotAuthentic):
            if source is not None and not self._draw(f"{name} refused", TOLD):
                why = proof.reason if scheme and isinstance(proof, NotAuthentic) else "no-secret"
                log.warning("hook of %s refused: %s", name, why)
            return REFUSED
        wait = self._draw(name, RATE)
        if wait:
            return HookAnswer(429, "too-many", wait)
        return self._proven(source, request, proof, now)

    def _draw(self, name: str, rate: Rate) -> int:
        """Take one of what there may be; return the seconds to wait if none is left."""
        now = time.monotonic()
        drawn = draw(self._buckets.get(name, Bucket(float(rate.burst), now)), rate, now)
        self._buckets[name] = drawn.bucket
        return math.ceil(drawn.wait)

    def _proven(
        self, source: ForgeSource, request: WebhookRequest, proof: Authentic, now: float
    ) -> HookAnswer:
        provider = PROVIDERS[source.forge]
        try:
            delivery = normalisation.delivery(
                source.name, provider, request, proof,
                received=now, fresh_trace=secrets.token_hex(16),
            )  # fmt: skip
        except MalformedPayloadError:
            return HookAnswer(400, "malformed-body")
        payload = reading.parse(request.body)
        if not source.is_of(repository(provider, delivery.event, payload)):
            return HookAnswer(200, "ignored")
        found = told(provider, delivery.event, payload)
        if found is None or not source.wants(found):
            return HookAnswer(200, "ignored")
        taken = self._opened().take(source.name, delivery.identity, found, "hook", now)
        log.info("hook of %s: %s, %s", source.name, found.shown, taken)
        return HookAnswer(202 if taken == "new" else 200, "accepted" if taken == "new" else taken)

    def _opened(self) -> RevisionLedger:
        if self._ledger is None:
            self._ledger = self._open.enter_context(open_ledger())
        return self._ledger

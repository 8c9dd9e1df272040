"""Access tokens that differ.

Canaille 0.3.6 makes one of who signs in where, and of the second in which they do. The next one of
that second is the same, which its database refuses: a service is told of an error of the server.
RFC 9068, 2.2 wants an identifier in each.
"""

from __future__ import annotations

import secrets
from typing import Any

from canaille.oidc import provider


def tell_apart() -> None:
    """Give each access token something of its own."""
    generate = provider.generate_id_token

    def generate_apart(*arguments: Any, **more: Any) -> str:
        return str(generate(*arguments, **more, nonce=secrets.token_hex(16)))

    provider.generate_id_token = generate_apart

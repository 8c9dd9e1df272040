"""Licences: from the words that files use for them to the identifiers of SPDX, where there is one.

A lock keeps the words. What has no identifier is never guessed: a bill of materials then passes the
words on.
"""

from __future__ import annotations

import re

# Words of Debian's copyright files, of Python's classifiers and of package.json, in lower case.
_SAME = (
    "0BSD", "AFL-2.1", "AGPL-3.0-only", "AGPL-3.0-or-later", "Apache-2.0", "BSD-2-Clause",
    "BSD-3-Clause", "BSD-4-Clause", "BSL-1.0", "CC0-1.0", "CC-BY-4.0", "curl", "GPL-2.0-only",
    "GPL-2.0-or-later", "GPL-3.0-only", "GPL-3.0-or-later", "HPND", "ISC", "LGPL-2.1-only",
    "LGPL-2.1-or-later", "LGPL-3.0-only", "LGPL-3.0-or-later", "MIT", "MIT-CMU", "MPL-2.0",
    "OFL-1.1", "OLDAP-2.8", "PostgreSQL", "PSF-2.0", "Python-2.0", "Unlicense", "Vim", "W3C",
    "WTFPL", "X11", "Zlib", "ZPL-2.1",
)  # fmt: skip
_IDENTIFIERS = {name.lower(): name for name in _SAME} | {
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "artistic-2": "Artistic-2.0",
    "expat": "MIT",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
    "zope public license": "ZPL-2.1",
}
# The GNU licences as Debian writes them: a version, and a plus for "or any later".
_GNU = re.compile(r"(AGPL|LGPL|GPL|GFDL)-(\d)(?:\.(\d))?(\+)?")
_KNOWN_GNU = {
    "GPL-1.0", "GPL-2.0", "GPL-3.0", "LGPL-2.0", "LGPL-2.1", "LGPL-3.0", "AGPL-3.0", "GFDL-1.1",
    "GFDL-1.2", "GFDL-1.3",
}  # fmt: skip


def named(text: str) -> tuple[str, ...]:
    """Return the licences that a lock's words name, each once; all of them apply to some part."""
    return tuple(sorted({name.strip() for name in text.split(",") if name.strip()}))


def identifier(name: str) -> str | None:
    """Return the identifier, or the expression of identifiers, that a licence's name stands for.

    An expression is of names joined by `and` or `or`, without parentheses (SPDX 2.3, annex D); of
    both, nobody says here which binds first.
    """
    words = re.split(r"\s+(and|or)\s+", name, flags=re.IGNORECASE)
    ids = [_single(word) for word in words[::2]]
    joints = {word.upper() for word in words[1::2]}
    if len(joints) > 1 or not all(ids):
        return None
    return f" {joints.pop()} ".join(map(str, ids)) if joints else ids[0]


def _single(name: str) -> str | None:
    if known := _IDENTIFIERS.get(name.lower()):
        return known
    if match := _GNU.fullmatch(name):
        family, major, minor, later = match.groups()
        version = f"{family}-{major}.{minor or 0}"
        if version in _KNOWN_GNU:
            return f"{version}-{'or-later' if later else 'only'}"
    return None

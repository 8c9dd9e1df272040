"""Finds code by the name that a plan or a request gives it: a service's module, a check's function.

There is no table: a service's module has the service's id, and the kind of a check is the place of
its function, such as `services.redis.state`.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

HERE = os.path.dirname(__file__)
PACKAGES = ("checks", "services")


def service(name: str) -> ModuleType | None:
    """Return the module of a service; None if its record says all there is to know."""
    module = name.replace("-", "_")
    return load(f"services.{module}") if os.path.exists(f"{HERE}/services/{module}.py") else None


def function(kind: str) -> Any:
    """Return the function of a kind of check.

    Raises:
        LookupError: this guest has none that may be asked for under this name.
    """
    package, _, rest = kind.partition(".")
    module, _, name = rest.partition(".")
    known = package in PACKAGES and module.isidentifier()
    if known and os.path.exists(f"{HERE}/{package}/{module}.py"):
        found = vars(load(f"{package}.{module}")).get(name)
        if hasattr(found, "declarations"):
            return found
    raise LookupError(f"this guest does not know the kind of check {kind!r}")


def modules() -> list[ModuleType]:
    """Return every module in which checks are declared."""
    return [
        load(f"{package}.{file[:-3]}")
        for package in PACKAGES
        for file in sorted(os.listdir(f"{HERE}/{package}"))
        if file.endswith(".py") and file != "__init__.py"
    ]


def load(module: str) -> ModuleType:
    """Import a module of this package; only what is asked for, for a guest waits for each."""
    return __import__(f"rave_guest.{module}", fromlist=["_"])

"""The agents: what all their units together may take."""

from __future__ import annotations

from typing import Any

SLICE = "system-agents.slice"
HIGH = 9  # tenths of a cap, where the kernel throttles


def files(plan: dict[str, Any]) -> dict[str, str]:
    """The slice that holds them, by mode. A task's programs are its agent's: they count too."""
    memory = plan["services"]["agents"]["memory"]
    unit = f"[Unit]\nDescription=Agents, and what they run\n\n{limits(memory['safe'])}"
    return {
        f"etc/systemd/system/{SLICE}": unit,
        f"usr/lib/rave/modes/full/{SLICE}.d/60-limits.conf": limits(memory["full"]),
    }


def limits(mebibytes: int) -> str:
    """A memory cap."""
    return f"[Slice]\nMemoryMax={mebibytes}M\nMemoryHigh={mebibytes * HIGH // 10}M\n"

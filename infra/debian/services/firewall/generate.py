"""nftables: admits the exposed ports of the plan."""

from __future__ import annotations

from typing import Any


def files(plan: dict[str, Any]) -> dict[str, str]:
    """The rules."""
    return {"etc/nftables.conf": rules(plan["exposed"])}


def rules(exposed: list[dict[str, Any]]) -> str:
    """Loopback, what belongs to a known connection, the exposed ports."""
    accepts = "\n".join(
        f"        {protocol} dport {{ {', '.join(str(p) for p in ports)} }} accept"
        for protocol in ("tcp", "udp")
        if (ports := sorted(p["port"] for p in exposed if p["protocol"] == protocol))
    )
    return f"""#!/usr/sbin/nft -f
# Generated from the plan. Outward traffic is the host's to forbid (an isolated network does).
table inet rave
delete table inet rave
table inet rave {{
    # Filled by fail2ban; an element leaves when its time is over.
    set banned {{
        type ipv4_addr
        flags timeout
    }}
    chain input {{
        type filter hook input priority filter; policy drop;
        iif lo accept
        ct state vmap {{ established : accept, related : accept, invalid : drop }}
        ip saddr @banned drop
        icmp type echo-request accept
{accepts}
    }}
    chain forward {{
        type filter hook forward priority filter; policy drop;
    }}
}}
"""

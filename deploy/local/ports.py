"""Loopback ports, chosen once for a state folder and kept, so that a server that is started again
has the address that its clients know.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
from collections.abc import Sequence
from pathlib import Path

from deploy.local.process import replace_text

HOST = "127.0.0.1"


def kept_ports(state: Path, names: Sequence[str]) -> dict[str, int]:
    file = state / "ports.json"
    known: dict[str, int] = {}
    with contextlib.suppress(FileNotFoundError):
        known = json.loads(file.read_text("utf-8"))
    if missing := [name for name in names if name not in known]:
        known |= dict(
            zip(missing, free_ports(len(missing), avoid=set(known.values())), strict=True)
        )
        replace_text(file, json.dumps(known))
    return known


def free_ports(count: int, *, avoid: set[int]) -> list[int]:
    """Choose ports below the range of outgoing connections: a client that connects to a stopped
    server from a port of that range can connect to itself.
    """
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("utf-8").split()[0])
    candidates = random.sample(range(10_000, max(low, 20_000)), 500)
    chosen: list[int] = []
    with contextlib.ExitStack() as sockets:
        for port in candidates:
            if len(chosen) == count:
                break
            listener = sockets.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                if port not in avoid:
                    listener.bind((HOST, port))
                    chosen.append(port)
    return chosen


def listens(port: int) -> bool:
    with socket.socket() as caller:
        caller.settimeout(1)
        return caller.connect_ex((HOST, port)) == 0

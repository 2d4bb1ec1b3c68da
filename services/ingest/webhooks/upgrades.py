"""A request that offers a protocol upgrade, rewritten without the offer."""

from __future__ import annotations

from collections.abc import Iterable

OFFERS = frozenset({b"upgrade", b"http2-settings"})


def without_upgrade(
    method: bytes, target: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """Return the request's head, ready to be parsed. Headers that frame the body stay."""
    lines = [b"%s %s HTTP/%s" % (method, target, version.encode())]
    for name, value in headers:
        if name == b"connection":
            options = [option.strip() for option in value.split(b",")]
            kept = b", ".join(
                option for option in options if option and option.lower() not in OFFERS
            )
            if kept:
                lines.append(b"connection: " + kept)
        elif name not in OFFERS:
            lines.append(name + b": " + value)
    return b"\r\n".join([*lines, b"", b""])

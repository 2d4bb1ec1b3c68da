"""Batches on their way into a statement: arrays as PostgreSQL's own text, made by a few calls for
all elements together.

psycopg adapts a list element by element, which for a batch costs more than the statement itself.
These texts stand where the statement casts them: `unnest(%(order_ids)s::text[])`.
"""

from __future__ import annotations

from collections.abc import Sequence

NULL = "NULL"


def texts(elements: Sequence[str | None]) -> str:
    """Texts from anywhere; documents too, to be cast in the statement. A NUL goes through, for the
    server to refuse.
    """
    if not elements:
        return "{}"
    if None in elements:
        return (
            "{"
            + ",".join([NULL if it is None else '"' + _escaped(it) + '"' for it in elements])
            + "}"
        )
    joined = "\0".join(elements)  # type: ignore[arg-type]  # none of them is None
    if joined.count("\0") != len(elements) - 1:  # one holds a NUL itself
        return '{"' + '","'.join([_escaped(it or "") for it in elements]) + '"}'
    return '{"' + _escaped(joined).replace("\0", '","') + '"}'


def plain(elements: Sequence[int | bool | str | None]) -> str:
    """Numbers, booleans, UUIDs, codes, fixed words: what needs no quotes, for we made it
    ourselves.
    """
    if None in elements:
        return "{" + ",".join([NULL if it is None else str(it) for it in elements]) + "}"
    return "{" + ",".join(map(str, elements)) + "}"


def blobs(elements: Sequence[bytes | None]) -> str:
    """Bytes, by their hexadecimal digits."""
    return (
        "{" + ",".join([NULL if it is None else '"\\\\x' + it.hex() + '"' for it in elements]) + "}"
    )


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"') if "\\" in text or '"' in text else text

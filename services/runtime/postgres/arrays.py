"""Array parameters in PostgreSQL's own text format, made with a few calls for all elements.

psycopg adapts a list element by element, which for a batch costs more than the statement itself.
The statement casts such a text: `unnest(%(order_ids)s::text[])`.
"""

from __future__ import annotations

from collections.abc import Sequence

NULL = "NULL"


def texts(elements: Sequence[str | None]) -> str:
    """Return an array of any texts, also of JSON documents. A NUL is passed on, and the server
    refuses it.
    """
    if not elements:
        return "{}"
    if None in elements:
        return (
            "{"
            + ",".join([NULL if text is None else '"' + _escaped(text) + '"' for text in elements])
            + "}"
        )
    joined = "\0".join(elements)  # type: ignore[arg-type]  # none of them is None
    if joined.count("\0") != len(elements) - 1:  # one holds a NUL itself
        return '{"' + '","'.join([_escaped(text or "") for text in elements]) + '"}'
    return '{"' + _escaped(joined).replace("\0", '","') + '"}'


def plain(elements: Sequence[int | bool | str | None]) -> str:
    """Return an array of elements that need no quotes: numbers, booleans, UUIDs, our own codes."""
    if None in elements:
        return (
            "{" + ",".join([NULL if number is None else str(number) for number in elements]) + "}"
        )
    return "{" + ",".join(map(str, elements)) + "}"


def blobs(elements: Sequence[bytes | None]) -> str:
    """Return an array of bytes, as hexadecimal digits."""
    return (
        "{"
        + ",".join([NULL if value is None else '"\\\\x' + value.hex() + '"' for value in elements])
        + "}"
    )


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"') if "\\" in text or '"' in text else text

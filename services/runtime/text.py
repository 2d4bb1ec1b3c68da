"""Makes text from outside fit to be stored, logged, or shown on a terminal."""

import unicodedata

# NUL and lone surrogates, which PostgreSQL refuses.
UNSTORABLE = {0: None, **dict.fromkeys(range(0xD800, 0xE000))}
LINES = frozenset("\n\t")
SEPARATORS = frozenset("\u2028\u2029")  # Unicode's line and paragraph separators


def storable(text: str, chars_max: int = 2_000) -> str:
    """Return text that Postgres and JSON take: no NUL, no lone surrogates, cut at a limit."""
    return text[: 2 * chars_max].translate(UNSTORABLE)[:chars_max]


def printable(content: bytes | str | None) -> str:
    """Return text that a terminal may show.

    Control, format and bidirectional characters and line separators are escaped.
    """
    if content is None:
        return "(none)"
    text = content.decode("utf-8", "backslashreplace") if isinstance(content, bytes) else content
    return "".join(c if c in LINES or not _is_active(c) else _escaped(c) for c in text)


def one_line(content: bytes | str | None) -> str:
    """As `printable`, with line ends and tabs escaped too, so that text from outside cannot look
    like a line of ours.
    """
    return "".join(_escaped(c) if c in LINES else c for c in printable(content))


def quoted(content: bytes | str | None) -> str:
    """As `printable`, with each of its lines marked as quoted."""
    return "\n".join(f"| {line}" for line in printable(content).split("\n"))


def _is_active(character: str) -> bool:
    return unicodedata.category(character).startswith("C") or character in SEPARATORS


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")

"""Text that comes from strangers, made fit to be stored, logged, or shown on a terminal."""

import unicodedata

# NUL and lone surrogates: Postgres refuses both
UNSTORABLE = {0: None, **dict.fromkeys(range(0xD800, 0xE000))}
LINES = frozenset("\n\t")
SEPARATORS = frozenset("\u2028\u2029")  # Unicode's own ends of a line and of a paragraph


def storable(text: str, chars_max: int = 2_000) -> str:
    """What Postgres and JSON take: without NUL and lone surrogates, cut at a limit."""
    return text[: 2 * chars_max].translate(UNSTORABLE)[:chars_max]


def printable(content: bytes | str | None) -> str:
    """What a terminal may show: control, format and bidirectional characters and line separators
    are spelled out.
    """
    if content is None:
        return "(none)"
    text = content.decode("utf-8", "backslashreplace") if isinstance(content, bytes) else content
    return "".join(c if c in LINES or not _acts(c) else _spelled(c) for c in text)


def one_line(content: bytes | str | None) -> str:
    """As `printable`, and line ends and tabs are spelled out too: what came from outside cannot
    look like a line of ours.
    """
    return "".join(_spelled(c) if c in LINES else c for c in printable(content))


def quoted(content: bytes | str | None) -> str:
    """As `printable`, with its own lines kept and each of them marked as quoted."""
    return "\n".join(f"| {line}" for line in printable(content).split("\n"))


def _acts(character: str) -> bool:
    return unicodedata.category(character).startswith("C") or character in SEPARATORS


def _spelled(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")

"""The header block of a mail, written as bytes. Text that comes in is written as text and is never
decoded.

The standard library decodes encoded words in the text that it is given and folds addresses by
itself. Some versions (3.11.7 and 3.12.1 among them) then write the line ends of the decoded word
into the header, or lose the quotes of a folded name. Nothing here calls its header code. The rules
are those of RFC 5322 (lines, quoted strings) and RFC 2047 (encoded words).
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence

from services.delivery.errors import MailUnsound

LINE_CHARS = 78
# On the first line, after the longest name of a folded header.
VALUE_CHARS = LINE_CHARS - len("Reply-To: ")
# Of UTF-8 in one encoded word, whose line may have 76 characters: 12 of frame, 52 of Base64.
WORD_BYTES = 39
FOLD = "\r\n "
PRINTABLE = re.compile(r"[ -~]*")
BREAKS = re.compile(r"[\r\n\0]")
Header = tuple[str, str]


def unstructured(content: str) -> str:
    """Return the value of a header that holds text for people, such as a subject."""
    words = content.split(" ")
    if _is_plain(content) and all(0 < len(word) <= VALUE_CHARS for word in words):
        return FOLD.join(_lines(words))
    return FOLD.join(_encoded_words(content))


def mailbox(name: str, address: str) -> str:
    """Return one mailbox. The address was checked before: it is ASCII, without blanks, quotes and
    brackets.
    """
    if not name:
        return address
    phrase = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if not _is_plain(name) or len(phrase) > VALUE_CHARS:
        phrase = FOLD.join(_encoded_words(name))
    is_short = "\n" not in phrase and len(phrase) + len(address) + 3 <= VALUE_CHARS
    return f"{phrase} <{address}>" if is_short else f"{phrase}{FOLD}<{address}>"


def block(headers: Iterable[Header]) -> bytes:
    """Return the headers without the empty line that ends them. Raises MailUnsound for a value that
    is not ASCII or holds a line end other than a fold.
    """
    lines = []
    for name, value in headers:
        if BREAKS.search(value.replace(FOLD, " ")):
            raise MailUnsound(f"the value of {name} holds a line end or NUL")
        if not value.isascii():
            raise MailUnsound(f"the value of {name} is not ASCII")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode("ascii")


def _is_plain(content: str) -> bool:
    """Return whether a text needs no encoding: a reader decodes and drops no part of it."""
    return (
        PRINTABLE.fullmatch(content) is not None
        and "=?" not in content
        and content == content.strip(" ")
    )


def _lines(words: Sequence[str]) -> Iterator[str]:
    line = words[0]
    for word in words[1:]:
        if len(line) + len(word) + 1 > VALUE_CHARS:
            yield line
            line = word
        else:
            line += " " + word
    yield line


def _encoded_words(content: str) -> Iterator[str]:
    """Yield encoded words that decode by themselves: no character is divided between two."""
    piece = b""
    for character in content:
        try:
            encoded = character.encode("utf-8")
        except UnicodeEncodeError:
            raise MailUnsound("the text of a header holds a lone surrogate") from None
        if len(piece) + len(encoded) > WORD_BYTES:
            yield _encoded_word(piece)
            piece = b""
        piece += encoded
    yield _encoded_word(piece)


def _encoded_word(content: bytes) -> str:
    return f"=?utf-8?b?{b64encode(content).decode('ascii')}?="

"""Headers of a mail as bytes, written here and by no library, and read back before a mail is sent.

The standard library decodes encoded words in what it is given and folds addresses; some of its versions then write the line
ends of a decoded word, or lose the quotes of a folded name (seen with Python 3.11.7). Here text is only ever text: an encoded
word in a name is shown as it stands. Rules: RFC 5322 (lines, quoted strings), RFC 2047 (encoded words).
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from email import policy
from email.header import decode_header, make_header
from email.utils import getaddresses

from services.delivery.errors import MailUnsound

LINE_CHARS = 76  # of a folded header line; a mailbox that has no place to fold may be longer
LINE_BYTES_MAX = 998
QUOTED_CHARS_MAX = 60  # a longer name is written in encoded words, which can be folded anywhere
WORD_BYTES = 42  # of UTF-8 in an encoded word: 56 characters of Base64, within the 75 that a word may have
PLAIN = re.compile(r"[ -~]*")
Header = tuple[str, str]


def text(content: str) -> str:
    """The value of a header that is text for people: a subject."""
    if PLAIN.fullmatch(content) and "=?" not in content and len(content) <= LINE_CHARS - 20:
        return content
    return "\r\n ".join(_encoded_words(content))


def mailbox(name: str, address: str) -> str:
    """One mailbox with a name for people. The address has been checked: ASCII, without blanks and brackets."""
    if not name:
        return address
    if PLAIN.fullmatch(name) and "=?" not in name and len(name) <= QUOTED_CHARS_MAX:
        phrase = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    else:
        phrase = "\r\n ".join(_encoded_words(name))
    return f"{phrase}\r\n <{address}>"


def _encoded_words(content: str) -> Iterator[str]:
    """Each word decodes by itself: none begins in the midst of a character."""
    piece = b""
    for character in content:
        encoded = character.encode("utf-8", "replace")
        if len(piece) + len(encoded) > WORD_BYTES:
            yield _word(piece)
            piece = b""
        piece += encoded
    yield _word(piece)


def _word(content: bytes) -> str:
    return f"=?utf-8?b?{b64encode(content).decode()}?="


def written(headers: Sequence[Header]) -> bytes:
    """The block of headers, without the empty line after it. Raises MailUnsound."""
    block = "".join(f"{name}: {value}\r\n" for name, value in headers)
    try:
        return block.encode("ascii")
    except UnicodeEncodeError:
        raise MailUnsound("a header is not ASCII") from None


def check(mail: bytes, names: Sequence[str], mailboxes: dict[str, tuple[str, str]], subject: str) -> None:
    """Reads the headers back from the bytes that were made. Raises MailUnsound unless they are exactly those that were set.

    `names`: in their order, each once. `mailboxes`: name and address of each header that holds one.
    """
    block, separator, _ = mail.partition(b"\r\n\r\n")
    if not separator:
        raise MailUnsound("the headers have no end")
    lines = block.split(b"\r\n")
    if any(b"\r" in line or b"\n" in line or b"\0" in line or len(line) > LINE_BYTES_MAX for line in lines):
        raise MailUnsound("a header has a bare line end, a NUL or a line that is too long")
    found = [line.partition(b":")[0].decode("ascii", "replace") for line in lines if line[:1] not in b" \t"]
    if found != list(names):
        raise MailUnsound(f"the headers are {', '.join(found)[:200]}")
    values = dict(_unfolded(block))
    for name, (shown, address) in mailboxes.items():
        value = values[name]
        phrase = value.rpartition("<")[0].strip() if "<" in value else ""
        if not _is_one_address(name, value, address):
            raise MailUnsound(f"{name} is not exactly one address")
        if _shown(phrase) != shown:
            raise MailUnsound(f"{name} shows another name")
    if _shown(values["Subject"]) != subject:
        raise MailUnsound("Subject shows another text")


def _unfolded(block: bytes) -> Iterator[tuple[str, str]]:
    for line in re.split(r"\r\n(?![ \t])", block.decode("ascii", "replace")):
        name, _, value = line.partition(":")
        yield name, value.replace("\r\n", "").strip()


def _is_one_address(name: str, value: str, address: str) -> bool:
    """By the old and by the new parser of the standard library, which share no code."""
    try:
        modern = policy.default.header_factory(name, value)
    except (ValueError, IndexError):
        return False
    found = [it.addr_spec for it in modern.addresses]
    return [it[1] for it in getaddresses([value])] == [address] == found


def _shown(value: str) -> str:
    """What a reader of mails shows for a text or a name."""
    if value.startswith('"') and value.endswith('"'):
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    return str(make_header(decode_header(value)))

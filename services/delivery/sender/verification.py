"""Checks a mail before it is sent: its bytes are parsed again and compared with the mail that was
meant.

This module shares no code with `headers` and `mime`. It accepts the few forms that they write and
refuses everything else, so that a defect of theirs causes a dead letter and never a wrong mail.
That foreign parsers read these forms alike is proved by tests/unit/delivery/test_headers.py; here
it would cost more than composing the mail.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import a2b_base64, a2b_qp, b2a_base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.delivery.errors import MailUnsound

LINE_BYTES_MAX = 998  # RFC 5322, without the line end
BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")
ADDRESS = r"[^\s<>(),:;@\\\"\[\]]+@[A-Za-z0-9.-]+"
QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
WORD = re.compile(r"=\?utf-8\?b\?([A-Za-z0-9+/]*={0,2})\?=")
WORDS = re.compile(rf"{WORD.pattern}(?: {WORD.pattern})*")
MAILBOX = re.compile(
    rf"(?P<bare>{ADDRESS})|(?P<phrase>{QUOTED.pattern}|{WORDS.pattern}) <(?P<address>{ADDRESS})>"
)
MULTIPART = re.compile(rb'Content-Type: multipart/(mixed|alternative); boundary="(=_[0-9a-z_]+)"')
TEXT = re.compile(
    rb"Content-Type: text/(plain|html); charset=utf-8\r\n"
    rb"Content-Transfer-Encoding: (7bit|quoted-printable|base64)"
)
FILE = re.compile(
    rb"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n"
    rb'Content-Disposition: attachment; filename="([^"\r\n]*)"'
)
ENCODED_LINE_BYTES_MAX = 76  # RFC 2045


@dataclass(frozen=True, slots=True)
class ExpectedMail:
    """What the mail has to be."""

    names: Sequence[str]  # of its headers in their order, without those of the body
    mailboxes: Mapping[str, tuple[str, str]]  # header -> name and address
    subject: str
    texts: tuple[str, str]  # plain and HTML
    files: Sequence[tuple[str, bytes]]


def verify_mail(mail: bytes, expected: ExpectedMail) -> None:
    """Raise MailUnsound unless the bytes are exactly the expected mail."""
    head, separator, body = mail.partition(b"\r\n\r\n")
    if not separator or BARE.search(head) or not mail.isascii():
        raise MailUnsound("the headers have no end, or hold a bare line end, NUL or non-ASCII byte")
    if max(map(len, mail.split(b"\r\n"))) > LINE_BYTES_MAX:
        raise MailUnsound(f"a line is longer than {LINE_BYTES_MAX} bytes")
    *fields, version, content_type = head.replace(b"\r\n ", b" ").split(b"\r\n")
    values = _values(fields, expected.names)
    for name, (shown, address) in expected.mailboxes.items():
        _check_mailbox(name, values[name], shown, address)
    if _decoded(values["Subject"]) != expected.subject:
        raise MailUnsound("Subject reads as another text")
    if version != b"MIME-Version: 1.0":
        raise MailUnsound("the body is described by other headers")
    alternatives, *files = _parts(content_type, body, b"mixed")
    _check_texts(alternatives, expected.texts)
    if len(files) != len(expected.files):
        raise MailUnsound("the body has other parts than expected")
    for attached, (file_name, content) in zip(files, expected.files, strict=True):
        _check_file(attached, file_name, content)


def _values(fields: Sequence[bytes], names: Sequence[str]) -> dict[str, str]:
    """Return the values of the headers, which are these in this order, each once."""
    pairs = [field.decode("ascii").partition(": ") for field in fields]
    written = [name for name, _, _ in pairs]
    if written != list(names) or len(set(written)) != len(written):
        raise MailUnsound(f"the headers are {', '.join(written)}"[:300])
    return {name: value for name, _, value in pairs}


def _check_mailbox(name: str, value: str, shown: str, address: str) -> None:
    match = MAILBOX.fullmatch(value)
    if match is None:
        raise MailUnsound(f"{name} is not exactly the one address that was expected")
    if (match["bare"] or match["address"]) != address:
        raise MailUnsound(f"{name} is another address")
    if _shown(match["phrase"] or "") != shown:
        raise MailUnsound(f"{name} shows another name")


def _shown(phrase: str) -> str:
    """Return the name that a mail reader shows for the phrase before an address."""
    if QUOTED.fullmatch(phrase):
        return re.sub(r"\\(.)", r"\1", phrase[1:-1])
    return _decoded(phrase)


def _decoded(value: str) -> str:
    if not WORDS.fullmatch(value):
        return value
    try:
        return "".join(b64decode(word, validate=True).decode() for word in WORD.findall(value))
    except ValueError:
        raise MailUnsound("an encoded word cannot be decoded") from None


def _parts(content_type: bytes, body: bytes, subtype: bytes) -> list[bytes]:
    """Return the parts between the boundaries. Raises MailUnsound for anything before the first
    boundary or after the last.
    """
    match = MULTIPART.fullmatch(content_type)
    if match is None or match[1] != subtype:
        raise MailUnsound(f"the body is not multipart/{subtype.decode()}")
    mark = b"--" + match[2]
    first, last = mark + b"\r\n", b"\r\n" + mark + b"--\r\n"
    if not (body.startswith(first) and body.endswith(last)):
        raise MailUnsound(f"multipart/{subtype.decode()} is not between its boundaries")
    parts = body[len(first) : -len(last)].split(b"\r\n" + first)
    if body.count(mark) != len(parts) + 1:
        raise MailUnsound("a boundary is inside a part")
    return parts


def _check_texts(alternatives: bytes, texts: tuple[str, str]) -> None:
    content_type, _, body = alternatives.partition(b"\r\n\r\n")
    parts = _parts(content_type, body, b"alternative")
    kinds = []
    for part, text in zip(parts, texts, strict=False):
        head, _, content = part.partition(b"\r\n\r\n")
        if (match := TEXT.fullmatch(head)) is None:
            raise MailUnsound(f"a text of the body is described as {head!r}"[:300])
        kinds.append(match[1])
        decoded = _transfer_decoded(content, match[2])
        if decoded.splitlines() != text.encode("utf-8", "replace").splitlines():
            raise MailUnsound("a text of the body reads differently")
    if kinds != [b"plain", b"html"] or len(parts) != len(kinds):
        raise MailUnsound("the body has other parts than expected")


def _check_file(part: bytes, file_name: str, content: bytes) -> None:
    head, _, payload = part.partition(b"\r\n\r\n")
    match = FILE.fullmatch(head)
    if match is None or match[1] != file_name.encode("ascii", "replace"):
        raise MailUnsound("an attachment has another name or form")
    if _joined(payload) != b2a_base64(content, newline=False):  # decoding takes eight times as long
        raise MailUnsound("an attachment has another content")


def _transfer_decoded(content: bytes, encoding: bytes) -> bytes:
    if encoding == b"7bit":
        return content
    joined = _joined(content)
    if encoding == b"quoted-printable":
        return a2b_qp(content)
    try:
        return a2b_base64(joined, strict_mode=True)
    except ValueError:
        raise MailUnsound("a text of the body is not Base64") from None


def _joined(content: bytes) -> bytes:
    """Return an encoded part without its line ends."""
    lines = content.split(b"\r\n")
    if max(map(len, lines)) > ENCODED_LINE_BYTES_MAX:
        raise MailUnsound("a line of an encoded part is too long")
    return b"".join(lines)

"""Checks a mail before it is sent: its bytes are parsed again and compared with the mail that was
composed.

This module shares no code with `headers`. It accepts the few forms that `headers` writes and
refuses everything else, so that a defect of `headers` causes a dead letter and never a wrong mail.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import a2b_base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email import policy
from email.message import Message
from email.parser import BytesParser
from email.utils import getaddresses

from services.delivery.errors import MailUnsound

LINE_BYTES_MAX = 998  # RFC 5322, without the line end
BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")
ADDRESS = r"[^\s<>(),:;@\\\"\[\]]+@[A-Za-z0-9.-]+"
QUOTED = r'"(?:[^"\\]|\\.)*"'
WORD = r"=\?utf-8\?b\?([A-Za-z0-9+/]*={0,2})\?="
WORDS = rf"{WORD}(?: {WORD})*"
MAILBOX = re.compile(rf"(?P<bare>{ADDRESS})|(?P<phrase>{QUOTED}|{WORDS}) <(?P<address>{ADDRESS})>")
BODY_HEADERS = ["Content-Type", "MIME-Version"]  # after all others, in any order
PART_HEADERS = {  # of each kind of part, in any order, each once
    "multipart/alternative": {"content-type", "mime-version"},
    "text/plain": {"content-type", "content-transfer-encoding"},
    "text/html": {"content-type", "content-transfer-encoding", "mime-version"},
    "application/pdf": {
        "content-type",
        "content-transfer-encoding",
        "content-disposition",
        "mime-version",
    },
}


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
    if not separator or BARE.search(head):
        raise MailUnsound("the headers have no end, or hold a bare line end or NUL")
    if any(len(line) > LINE_BYTES_MAX for line in mail.split(b"\r\n")):
        raise MailUnsound(f"a line is longer than {LINE_BYTES_MAX} bytes")
    parsed = _parsed(head + separator)
    names = parsed.keys()
    if (
        names[: len(expected.names)] != list(expected.names)
        or sorted(names[len(expected.names) :]) != BODY_HEADERS
    ):
        raise MailUnsound(f"the headers are {', '.join(names)}"[:300])
    for name, (shown, address) in expected.mailboxes.items():
        _check_mailbox(name, _unfolded(parsed, name), shown, address)
    if _decoded(_unfolded(parsed, "Subject")) != expected.subject:
        raise MailUnsound("Subject reads as another text")
    _check_body(_parts(parsed, body), expected)


def _unfolded(parsed: Message, name: str) -> str:
    return re.sub(r"\r?\n(?=[ \t])", "", str(parsed[name]))


def _check_mailbox(name: str, value: str, shown: str, address: str) -> None:
    """Check by the grammar above, and by the standard library's parser of address lists."""
    match = MAILBOX.fullmatch(value)
    if match is None or [parsed for _, parsed in getaddresses([value])] != [address]:
        raise MailUnsound(f"{name} is not exactly the one address that was expected")
    if (match["bare"] or match["address"]) != address:
        raise MailUnsound(f"{name} is another address")
    if _shown(match["phrase"] or "") != shown:
        raise MailUnsound(f"{name} shows another name")


def _shown(phrase: str) -> str:
    """Return the name that a mail reader shows for the phrase before an address."""
    if re.fullmatch(QUOTED, phrase):
        return re.sub(r"\\(.)", r"\1", phrase[1:-1])
    return _decoded(phrase)


def _decoded(value: str) -> str:
    if not re.fullmatch(WORDS, value):
        return value
    try:
        return "".join(b64decode(word, validate=True).decode() for word in re.findall(WORD, value))
    except ValueError:
        raise MailUnsound("an encoded word cannot be decoded") from None


def _parsed(content: bytes) -> Message:
    """Parse by a policy that decodes nothing by itself."""
    return BytesParser(policy=policy.compat32).parsebytes(content)


def _parts(parsed: Message, body: bytes) -> list[bytes]:
    """Return the parts between the boundaries. Raises MailUnsound for anything before the first
    boundary or after the last.
    """
    mark = b"--" + (parsed.get_boundary() or "").encode("ascii", "replace")
    first, last = mark + b"\r\n", b"\r\n" + mark + b"--\r\n"
    if parsed.get_content_type() != "multipart/mixed" or not (
        body.startswith(first) and body.endswith(last)
    ):
        raise MailUnsound("the body is not multipart/mixed between its boundaries")
    parts = body[len(first) : -len(last)].split(b"\r\n" + first)
    if body.count(mark) != len(parts) + 1:
        raise MailUnsound("a boundary is inside a part")
    return parts


def _check_body(parts: Sequence[bytes], expected: ExpectedMail) -> None:
    """Check multipart/alternative (plain, HTML), then the files in their order."""
    alternatives = list(_parsed(parts[0]).walk())
    if [part.get_content_type() for part in alternatives] != [
        "multipart/alternative",
        "text/plain",
        "text/html",
    ]:
        raise MailUnsound("the body has other parts than expected")
    if alternatives[0].preamble or (alternatives[0].epilogue or "").strip():
        raise MailUnsound("something is outside the texts of the body")
    for part, text in zip(alternatives, (None, *expected.texts), strict=True):
        _check_part(part)
        if text is not None and _content(part).splitlines() != text.encode().splitlines():
            raise MailUnsound("a text of the body reads differently")
    if len(parts) != 1 + len(expected.files):
        raise MailUnsound("the body has other parts than expected")
    for attached, (file_name, content) in zip(parts[1:], expected.files, strict=True):
        _check_file(attached, file_name, content)


def _check_file(part: bytes, file_name: str, content: bytes) -> None:
    head, separator, payload = part.partition(b"\r\n\r\n")
    parsed = _parsed(head + separator)
    _check_part(parsed)
    encoding = parsed["Content-Transfer-Encoding"]
    if (parsed.get_content_type(), encoding, parsed.get_filename()) != (
        "application/pdf",
        "base64",
        file_name,
    ):
        raise MailUnsound("an attachment has another name or form")
    try:
        decoded = a2b_base64(payload.replace(b"\r\n", b""), strict_mode=True)
    except ValueError:
        raise MailUnsound("an attachment is not Base64") from None
    if decoded != content:
        raise MailUnsound("an attachment has another content")


def _check_part(part: Message) -> None:
    names = [name.lower() for name in part.keys()]  # noqa: SIM118 - a Message iterates its keys only by `keys`
    if (
        part.defects
        or len(set(names)) != len(names)
        or not set(names) <= PART_HEADERS[part.get_content_type()]
    ):
        raise MailUnsound(f"a part of the body has the headers {', '.join(names)}"[:300])


def _content(part: Message) -> bytes:
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""

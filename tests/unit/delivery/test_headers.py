"""Whatever text comes in, a mail has the headers, the addresses and the body that were meant: read
back by foreign parsers.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email import policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.parser import BytesParser
from email.utils import getaddresses, parseaddr
from uuid import UUID

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.orders import Person
from services.delivery.documents import OrderSummary, document, plain, summary
from services.delivery.errors import MailUnsound
from services.delivery.sender import headers, mime
from services.delivery.sender.mail import (
    SenderIdentity,
    bodies,
    compose,
    named_files,
    subject,
)
from services.delivery.sender.verification import ExpectedMail, verify_mail
from tests.support.deliveries import issued

HEADERS = [
    "From", "To", "Reply-To", "Subject", "Date", "Message-ID", "Auto-Submitted", "X-Auto-Response-Suppress",  # noqa: E501 - a row of a table, or a program
    "Content-Language", "MIME-Version", "Content-Type",
]  # fmt: skip
BODY = "=0D=0AContent-Type:_text/html=0D=0A=0D=0A<a_href=3D//evil.example>Pay_here</a>"
HOSTILE = [
    f"=?utf-8?Q?{BODY}?=",
    "=?utf-8?Q?=0D=0ABcc:_all=40example.org?=",
    "=?utf-8?b?DQpCY2M6IGFsbEBleGFtcGxlLm9yZw0KDQo8aDE+?=",
    "=?utf-8?Q?=3D=3Futf-8=3FQ=3F=0D=0ABcc:_x?= =?utf-8?Q?=40example.org=3F=3D?=",
    "=?utf-7?Q?+AA0ACg-Bcc:?= =?utf-16?b?AA0ACg==?= =?unknown?Q?=0D=0A?= =?utf-8*en?Q?=0D=0A?=",
    "=?utf-8?Q?a", "?= =?utf-8?Q?=0D=0A?=", "=?", "?=", "=??=", "=?utf-8?q??=",
    "Eve\r\nBcc: all@example.org", "Eve\nBcc: x", "Eve\rBcc: x", "Eve\x85Bcc: x", "Eve\u2028Bcc: x", "Eve\u2029Bcc: x", "a\x00b",  # noqa: E501 - a row of a table, or a program
    "\ud800\udfff lone", ("\u202eevil\u202c "
    "\u2066x\u2069"), '"', '""', "\\", '\\"', '"\\', '" <x@evil.example>, "', "<x@evil.example>",
    "Bartholomew Maximilian Featherstonehaugh, x@evil.example, And Sons Limited Company",
    "a" * 1_000, "x " * 200, ',;:"<>@()' * 10, "(comment) name", "group: a@evil.example;", "中文 " * 30, "😀" * 90, "é" * 90, " ", "",  # noqa: E501 - a row of a table, or a program
]  # fmt: skip
NAMES = st.one_of(
    st.text(max_size=120),
    st.text(alphabet=',;:"<>@()\\ .abc=?_-', min_size=60, max_size=100),
    st.text(alphabet="=?utf-8QqBb_0DA40 \r\n:<>@,", min_size=1, max_size=100),
    st.sampled_from(HOSTILE),
)


def summarised(buyer: str, campaign: str, number: str) -> OrderSummary:
    snapshot = issued("shop:727", 1, "Active", buyer=Person(name=buyer, email="ada@example.org"))
    [draw] = snapshot.campaigns
    hostile = msgspec.structs.replace(
        snapshot, number=number, campaigns=(msgspec.structs.replace(draw, name=campaign),)
    )
    return summary(document(hostile, hostile.tickets), hostile.campaigns)


def composed(
    buyer: str, campaign: str = "Spring Draw", sender: str = "Tickets", number: str = "727"
) -> bytes:
    return compose(
        summarised(buyer, campaign, number),
        [b"%PDF a", b"%PDF b"],
        job_id=UUID(int=1),
        recipient="ada@example.org",
        identity=SenderIdentity(
            (plain(sender, 100), "tickets@example.org"), (plain(sender, 100), "help@example.org")
        ),
        now=datetime(2026, 11, 21, tzinfo=UTC),
    )


def squeezed(text: str) -> str:
    """Without blanks: Python 3.11.7 shows one between two encoded words of a name, which RFC 2047
    joins.
    """
    return "".join(text.split())


@given(NAMES, NAMES, NAMES, NAMES)
@example(*[HOSTILE[0]] * 4)
def test_no_text_writes_a_header_an_address_or_a_part(
    buyer: str, campaign: str, sender: str, number: str
) -> None:
    mail = composed(buyer, campaign, sender, number)
    parsed = BytesParser(EmailMessage, policy=policy.default).parsebytes(mail)
    assert parsed.keys() == HEADERS
    assert [part.get_content_type() for part in parsed.walk()] == [
        "multipart/mixed", "multipart/alternative", "text/plain", "text/html", "application/pdf", "application/pdf",  # noqa: E501 - a row of a table, or a program
    ]  # fmt: skip
    assert [part.get_content() for part in parsed.iter_attachments()] == [b"%PDF a", b"%PDF b"]
    assert [defect for part in parsed.walk() for defect in part.defects] == []
    for name, shown, address in (
        ("To", plain(buyer, 100), "ada@example.org"),
        ("From", plain(sender, 100), "tickets@example.org"),
        ("Reply-To", plain(sender, 100), "help@example.org"),
    ):
        [only] = parsed[name].addresses
        assert (squeezed(only.display_name), only.addr_spec) == (squeezed(shown), address)
    assert all(
        len(line) <= 78 and line.isascii() for line in mail.partition(b"\r\n\r\n")[0].split(b"\r\n")
    )


@given(NAMES, NAMES, NAMES)
@example("中文" * 20, "é" * 60, "=C3=A9 =\r\n.")
def test_the_texts_read_as_they_were_written(buyer: str, campaign: str, number: str) -> None:
    parsed = BytesParser(EmailMessage, policy=policy.default).parsebytes(
        composed(buyer, campaign, number=number)
    )
    for subtype, text in zip(
        ("plain", "html"), bodies(summarised(buyer, campaign, number), 2), strict=True
    ):
        part = parsed.get_body((subtype,))
        assert part is not None
        read = part.get_payload(decode=True)
        assert isinstance(read, bytes)
        assert read.splitlines() == text.encode("utf-8", "replace").splitlines()


@given(NAMES)
def test_a_mailbox_is_one_address_to_every_parser(text: str) -> None:
    """The standard library has two parsers of addresses, which share no code."""
    name = plain(text, 100)
    value = headers.mailbox(name, "ada@example.org").replace("\r\n", "")
    assert [address for _, address in getaddresses([value])] == ["ada@example.org"]
    [modern] = policy.default.header_factory("To", value).addresses
    assert (squeezed(modern.display_name), modern.addr_spec) == (squeezed(name), "ada@example.org")
    written = parseaddr(value)[0]
    assert (str(make_header(decode_header(written))) if "=?" in written else written) == name


@given(NAMES)
def test_a_subject_reads_as_it_was_meant(text: str) -> None:
    meant = plain(text, 100)
    value = headers.unstructured(meant)
    assert str(make_header(decode_header(value.replace("\r\n", "")))) == meant
    assert all(len(line) <= 69 for line in value.split("\r\n"))


@given(NAMES | st.text(max_size=30).map(lambda text: f'"{text}"'))
@example('"quoted"')
def test_what_is_written_is_what_is_read_back(text: str) -> None:
    """Of any text a writer and a reader that share no code make the same: no innocent mail becomes
    a letter.
    """
    meant = plain(text, 100)
    head = [
        ("To", headers.mailbox(meant, "ada@example.org")),
        ("Subject", headers.unstructured(meant)),
    ]
    texts, files = ("Hello.", "<p>Hello."), [("a.pdf", b"%PDF")]
    mail = headers.block(head) + mime.body(texts, files, boundary="=_x")
    verify_mail(
        mail,
        ExpectedMail(["To", "Subject"], {"To": (meant, "ada@example.org")}, meant, texts, files),
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_an_encoded_word_is_shown_as_it_stands(name: str) -> None:
    parsed = BytesParser(EmailMessage, policy=policy.default).parsebytes(composed(name, name))
    assert squeezed(parsed["To"].addresses[0].display_name) == squeezed(plain(name, 100))
    assert plain(name, 80) in parsed["Subject"]


def test_words_without_need_are_not_encoded() -> None:
    mail = composed(
        'Ada "Countess" Lovelace',
        "A long but plain name of a campaign, which is folded between its words",
    )
    head = mail.partition(b"\r\n\r\n")[0].decode("ascii")
    assert 'To: "Ada \\"Countess\\" Lovelace" <ada@example.org>\r\n' in head
    assert (
        "Subject: Your ticket: A long but plain name of a campaign, which is folded\r\n between "
        "its words"
    ) in head


@pytest.mark.parametrize("value", ["a\r\nBcc: x", "a\nb", "a\rb", "a\0b", "é", "a\r\n\r\n b"])
def test_no_value_of_a_header_holds_a_line_end_or_more_than_ascii(value: str) -> None:
    with pytest.raises(MailUnsound):
        headers.block([("Subject", value)])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"To: ", b"Bcc: all@example.org\r\nTo: "),
        (b"To: ", b"To: eve@example.org\r\nTo: "),
        (b'"Ada" <', b'"Ada", "Eve" <'),
        (b'"Ada" <', b"Ada, eve@evil.example <"),
        (b'"Ada" <', b'"Eve" <'),
        (b'"Ada" <', b"=?utf-8?b?QWRhDQo=?= <"),
        (b"<ada@example.org>", b"<eve@example.org>"),
        (b"<ada@example.org>", b"<ada@example.org>, <eve@example.org>"),
        (b"<ada@example.org>", b"<ada@example.org> (eve)"),
        (b"Subject: Your", b"Subject: My"),
        (b"Subject: Your", b"Subject: =?utf-8?q?Your?="),
        (b"Subject: ", b"Subject: \n"),
        (b"Subject: ", b"Subject: \0"),
        (b"Subject: ", b"Subject: a\r\n\r\n"),
        (b"Auto-Submitted: auto-generated\r\n", b""),
        (b"tickets-727-1.pdf", b"tickets-727-9.pdf"),
        (b'filename="tickets-727-1.pdf"', b'filename="tickets-727-1.pdf"\r\nX-Other: 1'),
        (b"Content-Type: application/pdf", b"Content-Type: text/html"),
        (b"Hello Ada", b"Hello Eve"),
        (b"MIME-Version: 1.0\r\n", b"MIME-Version: 1.0\r\nMIME-Version: 1.0\r\n"),
        (b"JVBERiBh", b"JVBERiBi"),
        (b"JVBERiBh", b"JVBERiBh!"),
        (b"JVBERiBh", b"JVBERiBh\r\n--=_x--\r\n"),
        (b"--\r\n", b"--\r\nafter the end\r\n"),
        (b"Content-Language: en", b"Content-Language: " + b"e" * 990),
    ],
)
def test_a_mail_that_is_not_the_one_that_was_meant_is_refused(old: bytes, new: bytes) -> None:
    mail = composed("Ada")
    snapshot = issued("shop:727", 1, "Active", buyer=Person(name="Ada", email="ada@example.org"))
    made = summary(document(snapshot, snapshot.tickets), snapshot.campaigns)
    meant = ExpectedMail(
        HEADERS[:-2],
        {"From": ("Tickets", "tickets@example.org"), "To": ("Ada", "ada@example.org"), "Reply-To": ("Tickets", "help@example.org")},  # noqa: E501 - a row of a table, or a program
        subject(made),
        bodies(made, 2),
        named_files("727", [b"%PDF a", b"%PDF b"]),
    )  # fmt: skip
    verify_mail(mail, meant)
    assert old in mail
    with pytest.raises(MailUnsound):
        verify_mail(mail.replace(old, new, 1), meant)

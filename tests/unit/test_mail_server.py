"""The local mail server keeps each mail as it came, and speaks what real servers speak."""

from __future__ import annotations

import asyncio
import mailbox
import smtplib
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from deploy.local.ports import HOST
from deploy.local.smtp import ENDING, Envelope, Maildir, MailServer, serve, stored
from tests.support.certificates import LocalAuthority

MAIL = b"Subject: Tickets\r\n\r\n.first\r\nBj\xc3\xb8rn\r\n..\r\nlast\r\n"
LOGIN = ("shop", "pass word")


@contextmanager
def serving(server: MailServer) -> Iterator[int]:
    """Serve in a thread of its own; yields the port."""
    ready: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve_until_stopped() -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        await serve(0, server, stopped, lambda port: ready.set_result((port, loop, stopped)))

    thread = threading.Thread(target=lambda: asyncio.run(serve_until_stopped()))
    thread.start()
    port, loop, stopped = ready.result()
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join()


@pytest.fixture
def server(tmp_path: Path) -> MailServer:
    return MailServer(Maildir(tmp_path / "mail"), tmp_path / "mode")


def mails(folder: Path) -> list[bytes]:
    """Return the mails as they lie in the Maildir."""
    return [path.read_bytes() for path in sorted((folder / "mail" / "new").iterdir())]


def send(port: int, content: bytes = MAIL, options: tuple[str, ...] = ()) -> None:
    with smtplib.SMTP(HOST, port) as client:
        client.sendmail("shop@example.org", ["ada@example.org"], content, options)


def test_a_mail_is_kept_byte_for_byte_below_its_envelope(
    server: MailServer, tmp_path: Path
) -> None:
    with serving(server) as port:
        send(port)
    envelope = b"X-Envelope-From: shop@example.org\r\nX-Envelope-To: ada@example.org\r\n"
    assert mails(tmp_path) == [envelope + MAIL]
    assert len(mailbox.Maildir(tmp_path / "mail", create=False)) == 1


@given(some.lists(some.sampled_from([b"", b".", b"..", b"a.", b".b", b"\r", b"c"]), max_size=12))
def test_doubled_dots_are_removed_and_nothing_else(lines: list[bytes]) -> None:
    content = b"\r\n".join(lines) + b"\r\n"
    doubled = b"\r\n".join(b"." + line if line[:1] == b"." else line for line in lines) + b"\r\n"
    assert stored(doubled, Envelope("", [])).partition(b"To: \r\n")[2] == content


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(data=some.data())
def test_however_the_bytes_are_cut_the_same_mails_arrive(
    server: MailServer, tmp_path: Path, data: some.DataObject
) -> None:
    """Commands sent at once are answered in their order (PIPELINING, RFC 2920)."""
    before = len(mails(tmp_path))
    dialogue = b"EHLO x\r\n"
    for number in range(3):
        dialogue += b"MAIL FROM:<a@b> BODY=8BITMIME\r\nRCPT TO:<c@d> NOTIFY=FAILURE\r\nDATA\r\n"
        dialogue += b"Subject: %d\r\n\r\n..text" % number + ENDING
    dialogue += b"QUIT\r\n"
    cuts = sorted(data.draw(some.sets(some.integers(1, len(dialogue) - 1), max_size=6)))
    pieces = [
        dialogue[one:other] for one, other in zip([0, *cuts], [*cuts, len(dialogue)], strict=True)
    ]
    with (
        serving(MailServer(server.mails, server.control)) as port,
        socket.create_connection((HOST, port)) as client,
    ):
        for piece in pieces:
            client.sendall(piece)
        replies = b""
        while received := client.recv(4_096):
            replies += received
    codes = [line[:3] for line in replies.split(b"\r\n") if line[3:4] == b" "]
    assert codes == [b"220", b"250", *[b"250", b"250", b"354", b"250"] * 3, b"221"]
    assert len(mails(tmp_path)) == before + 3


def test_the_control_file_decides_the_next_answer(server: MailServer, tmp_path: Path) -> None:
    with serving(server) as port:
        for word, code in (("tempfail", 451), ("permfail", 550)):
            server.control.write_text(word)
            with pytest.raises(smtplib.SMTPDataError) as refusal:
                send(port)
            assert refusal.value.smtp_code == code
        assert mails(tmp_path) == []
        server.control.write_text("swallow")
        with pytest.raises(smtplib.SMTPServerDisconnected):
            send(port)
        assert len(mails(tmp_path)) == 1
        server.control.write_text("slow 1")
        send(port)
    assert len(mails(tmp_path)) == 2


def test_without_a_login_no_mail_is_taken_where_one_is_needed(
    server: MailServer, tmp_path: Path
) -> None:
    with serving(MailServer(server.mails, server.control, login=LOGIN)) as port:
        with pytest.raises(smtplib.SMTPSenderRefused):
            send(port)
        with smtplib.SMTP(HOST, port) as client:
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login(LOGIN[0], "wrong")
            client.user, client.password = LOGIN
            client.auth("PLAIN", client.auth_plain)
            client.sendmail("shop@example.org", ["ada@example.org"], MAIL)
        with smtplib.SMTP(HOST, port) as client:
            client.ehlo()
            client.user, client.password = LOGIN
            assert client.auth("LOGIN", client.auth_login)[0] == 235
    assert len(mails(tmp_path)) == 1


def test_a_mail_goes_encrypted_after_starttls(server: MailServer, tmp_path: Path) -> None:
    authority = LocalAuthority(tmp_path)
    issued = authority.issue("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    trusting = ssl.create_default_context(cafile=str(authority.certificate))
    with (
        serving(MailServer(server.mails, server.control, LOGIN, context)) as port,
        smtplib.SMTP("localhost", port) as client,
    ):
        assert client.ehlo()[0] == 250
        assert client.has_extn("starttls")
        assert not client.has_extn("auth")
        client.starttls(context=trusting)
        client.login(*LOGIN)
        client.sendmail("shop@example.org", ["ada@example.org"], MAIL)
    assert len(mails(tmp_path)) == 1


def test_what_follows_starttls_unencrypted_is_refused(server: MailServer, tmp_path: Path) -> None:
    authority = LocalAuthority(tmp_path)
    issued = authority.issue("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    with serving(MailServer(server.mails, server.control, tls=context)) as port:
        assert dialogue(port, b"EHLO x\r\nSTARTTLS\r\nMAIL FROM:<a@b>\r\n")[-1] == b"501"


@pytest.mark.parametrize(
    ("commands", "code"),
    [
        (b"NONSENSE\r\n", b"500"),
        (b"MAIL FROM:<a@b>\r\n", b"503"),
        (b"EHLO x\r\nRCPT TO:<a@b>\r\n", b"503"),
        (b"EHLO x\r\nMAIL FROM:<a@b>\r\nDATA\r\n", b"503"),
        (b"EHLO x\r\nMAIL FROM:a@b\r\n", b"501"),
        (b"EHLO x\r\nMAIL FROM:<a@b> SIZE=99999999999\r\n", b"552"),
        (b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<\xff>\r\n", b"501"),
        (b"EHLO x\r\nAUTH PLAIN AGEAYg==\r\n", b"503"),
        (b"EHLO x\r\nSTARTTLS\r\n", b"502"),
        (b"x" * 20_000, b"500"),
    ],
)
def test_a_wrong_command_has_its_reply(server: MailServer, commands: bytes, code: bytes) -> None:
    with serving(server) as port:
        assert dialogue(port, commands)[-1] == code


def dialogue(port: int, commands: bytes) -> list[bytes]:
    """Send the commands, end the sending half, and return the codes of all replies."""
    with socket.create_connection((HOST, port)) as client:
        client.sendall(commands)
        client.shutdown(socket.SHUT_WR)
        replies = b""
        while received := client.recv(4_096):
            replies += received
    return [line[:3] for line in replies.split(b"\r\n") if line[3:4] == b" "]

"""The dialogue with mail servers that misbehave at each stage: every wait ends, and what is said
back names the stage.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Self

import pytest

from services.delivery.sender.rules import SendVerdict, SmtpReply, classify_reply
from services.delivery.sender.smtp import OutgoingMail, SmtpChannel, SmtpServer

PARCEL = OutgoingMail(
    "tickets@example.org", "ada@example.org", "job-1", b"Subject: x\r\n\r\n.dot\r\nend\r\n"
)
POLITE = {
    "greeting": "220 here",
    "EHLO": "250-here\r\n250-DSN\r\n250 SIZE 1000000",
    "MAIL": "250 ok",
    "RCPT": "250 ok",
    "DATA": "354 go on",
    ".": "250 2.0.0 kept",
    "QUIT": "221 bye",
}
PIPELINING = {"EHLO": "250-here\r\n250-PIPELINING\r\n250 DSN"}
CUT, SILENT, DRIP, HALF, LATER = "cut", "silent", "drip", "half ", "later"


@dataclass
class Scripted:
    """Answers by script, one script a connection; the last serves all further ones. It keeps what
    it was told.
    """

    scripts: Sequence[dict[str, str]]
    commands: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(60)

    @property
    def server(self) -> SmtpServer:
        return SmtpServer("127.0.0.1", self._listener.getsockname()[1])

    def _accept(self) -> None:
        while not self._ending.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            script = {**POLITE, **self.scripts[min(self.connections, len(self.scripts) - 1)]}
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection, script), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, script: dict[str, str]) -> None:
        with connection, contextlib.suppress(OSError), connection.makefile("rb") as lines:
            if not self._answer(connection, script["greeting"]):
                return
            for line in iter(lines.readline, b""):
                command = line.decode().split()[0].upper().partition(":")[0]
                self.commands.append(line.decode().strip())
                if not self._answer(connection, script.get(command, "502 what")):
                    return
                if command == "DATA" and "354" in script["DATA"]:
                    self.bodies.append(b"".join(takewhile(is_content, lines)))
                    if not self._answer(connection, script["."]):
                        return

    def _answer(self, connection: socket.socket, text: str) -> bool:
        if text == CUT:
            return False
        if text == LATER:
            return True
        if text == SILENT:
            self._ending.wait(120)
            return False
        if text == DRIP:
            while not self._ending.wait(0.05):
                connection.sendall(b"2")
            return False
        if text.startswith(HALF):
            connection.sendall(text.removeprefix(HALF).encode())
            return False
        connection.sendall(text.encode() + b"\r\n")
        return True


def is_content(line: object) -> bool:
    return line != b".\r\n"


def channel(server: SmtpServer, **bounds: float) -> SmtpChannel:
    given = {"timeout_s": 30.0, "deadline_s": 60.0, **bounds}
    return SmtpChannel(
        server, timeout_s=given["timeout_s"], deadline_s=given["deadline_s"], mails_max=2
    )


def test_a_mail_is_sent_as_it_is_with_its_dots_and_requests_reports_by_its_name() -> None:
    with Scripted([{}]) as server:
        line = channel(server.server)
        dots: list[str] = []
        reply = line.send(PARCEL, at_final_dot=lambda: dots.append("dot"))
        line.close()
    assert reply == SmtpReply("end", 250, "2.0.0 kept")
    assert server.bodies == [b"Subject: x\r\n\r\n..dot\r\nend\r\n"]
    assert dots == ["dot"]
    assert any("ENVID=job-1" in command and "RET=HDRS" in command for command in server.commands)
    assert any("NOTIFY=FAILURE,DELAY" in command for command in server.commands)


def test_several_mails_go_by_one_connection_up_to_its_limit() -> None:
    with Scripted([{}]) as server:
        line = channel(server.server)
        answers = [line.send(PARCEL).code for _ in range(3)]
        line.close()
    assert answers == [250, 250, 250]
    assert server.connections == 2


def test_a_connection_that_was_closed_while_it_was_idle_says_nothing_of_the_mail() -> None:
    with Scripted([{".": "250 ok\r\n421 idle too long"}, {}]) as server:
        line = channel(server.server)
        assert [line.send(PARCEL).code, line.send(PARCEL).code] == [250, 250]
        line.close()
    assert server.connections == 2


STEPS = [
    ("greeting", "connect", SendVerdict.UNAVAILABLE),
    ("EHLO", "connect", SendVerdict.UNAVAILABLE),
    ("MAIL", "mail", SendVerdict.RETRY),
    ("RCPT", "rcpt", SendVerdict.RETRY),
    ("DATA", "data", SendVerdict.RETRY),
    (".", "end", SendVerdict.UNKNOWN),
]


@pytest.mark.parametrize("offers", [{}, PIPELINING], ids=["in turn", "pipelined"])
@pytest.mark.parametrize("how", [CUT, SILENT, DRIP])
def test_silence_ends_in_time_and_only_behind_the_final_dot_is_its_end_unknown(
    how: str, offers: dict[str, str]
) -> None:
    """All steps at once: a server answers the steps before within the timeout, however busy the
    machine is.
    """

    def ended(step: str) -> SmtpReply:
        with Scripted([{**offers, step: how}]) as server:
            return channel(server.server, timeout_s=2.5, deadline_s=4.0).send(PARCEL)

    begun = time.monotonic()
    with ThreadPoolExecutor(len(STEPS)) as pool:
        answers = list(pool.map(ended, [step for step, _, _ in STEPS]))
    assert [(it.stage, it.code, classify_reply(it)) for it in answers] == [
        (stage, 0, verdict) for _, stage, verdict in STEPS
    ]
    assert time.monotonic() - begun < 60  # a silent server would stay silent for longer


@pytest.mark.parametrize("offers", [{}, PIPELINING], ids=["in turn", "pipelined"])
@pytest.mark.parametrize(
    ("script", "reply", "verdict"),
    [
        (
            {"greeting": "554 no service"},
            SmtpReply("connect", 554, "no service"),
            SendVerdict.UNAVAILABLE,
        ),
        ({"greeting": "421 later"}, SmtpReply("connect", 421, "later"), SendVerdict.UNAVAILABLE),
        ({"MAIL": "421 closing"}, SmtpReply("mail", 421, "closing"), SendVerdict.UNAVAILABLE),
        (
            {"MAIL": "530 login first"},
            SmtpReply("mail", 530, "login first"),
            SendVerdict.LOGIN_REFUSED,
        ),
        (
            {"RCPT": "450 4.2.0 greylisted"},
            SmtpReply("rcpt", 450, "4.2.0 greylisted"),
            SendVerdict.RETRY,
        ),
        ({"RCPT": "550 5.1.1 nobody"}, SmtpReply("rcpt", 550, "5.1.1 nobody"), SendVerdict.REFUSED),
        (
            {"DATA": "554 no valid recipients"},
            SmtpReply("data", 554, "no valid recipients"),
            SendVerdict.REFUSED,
        ),
        ({".": "452 4.3.1 full"}, SmtpReply("end", 452, "4.3.1 full"), SendVerdict.RETRY),
    ],
)
def test_a_reply_names_its_stage_and_the_next_mail_begins_again(
    script: dict[str, str], reply: SmtpReply, verdict: SendVerdict, offers: dict[str, str]
) -> None:
    with Scripted([offers | script, {}]) as server:
        line = channel(server.server)
        assert line.send(PARCEL) == reply
        assert classify_reply(reply) is verdict
        assert line.send(PARCEL).code == 250
        line.close()


def test_a_server_that_offers_pipelining_gets_the_envelope_at_once() -> None:
    """It replies nothing before it has all of it."""
    replies = {"MAIL": LATER, "RCPT": LATER, "DATA": "354 go on"}
    with Scripted([PIPELINING | replies | {"DATA": "250 ok\r\n250 ok\r\n354 go on"}]) as server:
        line = channel(server.server)
        assert line.send(PARCEL) == SmtpReply("end", 250, "2.0.0 kept")
        line.close()
    assert [command.split()[0] for command in server.commands[1:4]] == ["MAIL", "RCPT", "DATA"]


@pytest.mark.parametrize("refused", ["MAIL", "RCPT"])
def test_a_mail_whose_envelope_was_refused_is_not_sent_though_the_server_waits_for_it(
    refused: str,
) -> None:
    with Scripted([PIPELINING | {refused: "550 5.1.1 nobody"}]) as server:
        line = channel(server.server)
        reply = line.send(PARCEL)
        assert (reply.stage, reply.code) == (refused.lower(), 550)
        line.close()
    assert b"".join(server.bodies) == b""  # not even a QUIT


@pytest.mark.parametrize(
    "half", ["2", "25", "250", "250 2.0.0 kep", "250-kept\r\n250", "yes\r\n", "+OK\r\n"]
)
def test_half_an_answer_to_the_final_dot_is_no_acceptance(half: str) -> None:
    with Scripted([{".": HALF + half}]) as server:
        reply = channel(server.server).send(PARCEL)
    assert (reply.stage, classify_reply(reply)) == ("end", SendVerdict.UNKNOWN)


def test_a_server_that_does_not_exist_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    reply = channel(SmtpServer("127.0.0.1", port)).send(PARCEL)
    assert (reply.stage, reply.code, classify_reply(reply)) == (
        "connect",
        0,
        SendVerdict.UNAVAILABLE,
    )


def test_a_password_is_never_sent_to_a_server_that_offers_no_encryption() -> None:
    with Scripted([{}]) as scripted:
        server = SmtpServer(
            "127.0.0.1", scripted.server.port, wants_starttls=True, user="u", password="secret"
        )
        reply = channel(server).send(PARCEL)
    assert classify_reply(reply) is SendVerdict.LOGIN_REFUSED
    assert not any("AUTH" in command for command in scripted.commands)


def test_a_wrong_password_is_not_the_recipients_fault() -> None:
    script = {"EHLO": "250-here\r\n250 AUTH PLAIN", "AUTH": "535 5.7.8 wrong"}
    with Scripted([script]) as server:
        reply = channel(
            SmtpServer("127.0.0.1", server.server.port, user="u", password="secret")
        ).send(PARCEL)
    assert (reply.stage, reply.code, classify_reply(reply)) == (
        "login",
        535,
        SendVerdict.LOGIN_REFUSED,
    )
    assert "secret" not in str(reply)

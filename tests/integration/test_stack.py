"""The local stack keeps its promises: real servers that come back where they were, and none that
outlives its owner.
"""

from __future__ import annotations

import contextlib
import os
import signal
import smtplib
import subprocess
import sys
import threading
import time
from email.message import EmailMessage
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from deploy.local.mail import Mail
from deploy.local.process import Identity, stat, wait_until
from deploy.local.programs import Program
from deploy.local.stack import STATE, Stack

ROOT = Path(__file__).resolve().parents[2]
OWNER = """
import signal, sys, time
from deploy.local.stack import Stack
# A run in the background inherits that the signal is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
with Stack.temporary() as stack:
    print(stack.state_dir, *(server.pid for server in stack.servers), flush=True)
    time.sleep(600)
"""


def test_a_record_comes_back_as_it_was_sent(bootstrap_servers: str, prefix: str) -> None:
    topic = f"{prefix}.stack"
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    admin.create_topics([NewTopic(topic, 1)])[topic].result(60)
    producer = Producer({"bootstrap.servers": bootstrap_servers})
    producer.produce(topic, b"value", b"key", headers=[("name", b"\x00\xff")])
    assert producer.flush(10) == 0
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": prefix})
    consumer.assign([TopicPartition(topic, 0, 0)])
    records = consumer.consume(1, 10)
    consumer.close()
    assert [(r.key(), r.value(), r.headers()) for r in records] == [
        (b"key", b"value", [("name", b"\x00\xff")])
    ]


def test_each_test_has_a_migrated_database_that_syncs_to_disk(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        assert connection.execute("select count(*) from runtime.lanes").fetchone() == (0,)
        durable = "select current_setting('fsync'), current_setting('synchronous_commit')"
        assert connection.execute(durable).fetchone() == ("on", "on")


@pytest.mark.parametrize("immediate", [False, True])
def test_the_database_comes_back_at_the_same_address_with_what_was_committed(
    stack: Stack, database_url: str, *, immediate: bool
) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("create table kept as select 1 as it")
    stack.postgres.stop(immediate=immediate)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(database_url, connect_timeout=2)
    stack.postgres.start()
    with psycopg.connect(database_url) as connection:
        assert connection.execute("select it from kept").fetchone() == (1,)


def test_a_paused_database_does_not_respond_until_it_is_resumed(
    stack: Stack, database_url: str
) -> None:
    with psycopg.connect(database_url) as connection:
        process = connection.execute("select pg_backend_pid()").fetchone()
        assert process is not None
        stack.postgres.pause()
        try:
            assert stat(process[0])[0] == "T"
        finally:
            stack.postgres.resume()
        assert connection.execute("select 1").fetchone() == (1,)


def message(subject: str) -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "shop@example.org", "holder@example.org", subject
    mail.set_content("text")
    return mail


def test_an_accepted_mail_can_be_read(mail: Mail) -> None:
    with smtplib.SMTP("127.0.0.1", mail.port, timeout=5) as client:
        client.send_message(message("kept"))
    assert [(m["Subject"], m["X-Envelope-To"]) for m in mail.mails()] == [
        ("kept", "holder@example.org")
    ]


def test_the_mail_server_misbehaves_as_configured(mail: Mail) -> None:
    with smtplib.SMTP("127.0.0.1", mail.port, timeout=5) as client:
        mail.behave("tempfail")
        with pytest.raises(smtplib.SMTPDataError, match="451"):
            client.send_message(message("later"))
        mail.behave("permfail")
        with pytest.raises(smtplib.SMTPDataError, match="550"):
            client.send_message(message("never"))
        mail.behave("swallow")
        with pytest.raises(smtplib.SMTPServerDisconnected):
            client.send_message(message("kept without an answer"))
    assert [m["Subject"] for m in mail.mails()] == ["kept without an answer"]
    mail.behave("hang")
    with (
        smtplib.SMTP("127.0.0.1", mail.port, timeout=5) as client,
        pytest.raises(smtplib.SMTPServerDisconnected),
    ):
        client.send_message(message("no answer"))


def test_a_server_started_by_a_thread_outlives_the_thread(mail: Mail) -> None:
    """The kernel's death signal comes when the forking thread ends: a chaos thread that restarts a
    server must not kill it.
    """
    mail.stop(immediate=True)
    starter = threading.Thread(target=mail.start)
    starter.start()
    starter.join()
    time.sleep(0.2)
    assert mail.running


@pytest.mark.slow
@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_the_one_that_started_it(death: signal.Signals) -> None:
    command = [sys.executable, "-c", OWNER]
    with (
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as owner,
        contextlib.ExitStack() as last,
    ):
        last.callback(owner.kill)
        assert owner.stdout is not None
        folder, *pids = owner.stdout.readline().decode().split()
        servers = [identity for pid in pids if (identity := Identity.of(int(pid))) is not None]
        assert len(servers) == 3
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", ",".join(pids)],
            capture_output=True,
            text=True,
            check=True,
        )
        servers += [
            identity
            for pid in children.stdout.split()
            if (identity := Identity.of(int(pid))) is not None
        ]
        owner.send_signal(death)
        owner.wait(120)
        wait_until(
            "the end of all servers",
            lambda: not any(server.alive for server in servers),
            seconds=10,
        )
    if death is signal.SIGINT:
        assert not Path(folder).exists()


def reachable_by_others(folder: Path) -> list[str]:
    """Return what a user who is not the owner could read, write or enter."""
    paths = []
    for path in (folder, *folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # a server has just removed it
            if not path.is_symlink() and path.stat().st_mode & 0o077:
                paths.append(str(path))
    return paths


def test_nothing_that_a_stack_makes_is_open_to_other_users(tmp_path: Path, stack: Stack) -> None:
    """Kafka's data and the logs hold names and addresses. The umask of the user who starts
    the stack does not matter.
    """
    folder, former = tmp_path / "outer" / "state", os.umask(0)
    try:
        with contextlib.ExitStack() as last, Stack(folder) as running:
            last.callback(running.postgres.remove)  # after the stack has stopped
            program = Program(
                "lane", "services.issuer", folder, 0, {**os.environ, **running.environment}
            )
            program.start_soon()
            last.callback(program.stop, immediate=True)
            with smtplib.SMTP("127.0.0.1", running.smtp.port, timeout=5) as client:
                client.send_message(message("closed"))
            admin = AdminClient({"bootstrap.servers": running.bootstrap_servers})
            admin.create_topics([NewTopic("closed", 1)])["closed"].result(10)
            home = Path((folder / "postgres.home").read_text())
            assert len(list(folder.rglob("*"))) > 30
            assert reachable_by_others(folder) == []
            assert reachable_by_others(home) == []
    finally:
        os.umask(former)
    assert stack.state_dir.parent.stat().st_mode & 0o077 == 0


def test_a_folder_that_an_earlier_release_left_open_is_closed(tmp_path: Path) -> None:
    Stack(tmp_path)
    tmp_path.chmod(0o755)
    Stack(tmp_path)
    assert tmp_path.stat().st_mode & 0o077 == 0


def test_a_stale_pid_file_harms_no_process(tmp_path: Path) -> None:
    """The process id in it now belongs to another process: this one."""
    myself = Identity.of(os.getpid())
    assert myself is not None
    former = Identity(myself.pid, myself.started - 1, myself.boot)
    former.write(tmp_path / "run.pid")
    read = Identity.read(tmp_path / "run.pid")
    assert read == former
    assert not read.alive
    read.send(signal.SIGKILL)


def test_two_stacks_stand_side_by_side(stack: Stack) -> None:
    assert stack.state_dir.parent == STATE
    began = time.monotonic()
    ports = {server.port for server in stack.servers}
    with Stack.temporary() as other:
        assert not ports & {server.port for server in other.servers}
        folder = other.state_dir
    assert not folder.exists()
    assert time.monotonic() - began < 60

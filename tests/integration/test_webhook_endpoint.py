"""The webhook endpoint over real HTTP, with a real Kafka: it never answers success for a callback
that is not durable.
"""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import httpx
import pytest

from deploy.local.stack import Stack
from services.ingest import vendors
from services.ingest.errors import CallbackUnreadable
from services.ingest.worker import SERVICE
from tests.support.callbacks import signature, signed, woo_order
from tests.support.trapped import until
from tests.support.webhook_endpoint import OLD_SECRET, ROOT, SECRET, WebhookEndpointProcess

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def shared_endpoint(
    bootstrap_servers: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebhookEndpointProcess]:
    with WebhookEndpointProcess(
        bootstrap_servers, f"t{secrets.token_hex(4)}", tmp_path_factory.mktemp("webhooks")
    ) as opened:
        yield opened


@pytest.fixture
def endpoint(shared_endpoint: WebhookEndpointProcess) -> WebhookEndpointProcess:
    """An endpoint that all tests share which leave it as they found it."""
    shared_endpoint.mark()
    return shared_endpoint


@pytest.fixture
def own_endpoint(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> Iterator[WebhookEndpointProcess]:
    with WebhookEndpointProcess(bootstrap_servers, prefix, tmp_path) as opened:
        yield opened


def body(number: int = 727, **changes: object) -> bytes:
    return json.dumps(woo_order(id=number, **changes)).encode()


def is_problem(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert answer.json()["detail"]


def test_a_callback_is_kept_byte_for_byte_before_it_is_answered(
    endpoint: WebhookEndpointProcess,
) -> None:
    sent = b'{"id":727,  "x":"\\/ \\u00e9"}'
    assert endpoint.send(sent, traceparent=TRACE).status_code == 200
    (kept,) = endpoint.records()
    headers = {name: (text or b"").decode() for name, text in kept.headers}
    assert kept.value == sent
    assert kept.key == f"{endpoint.slug}:727".encode()
    assert headers["ce_type"] == "stubline.callback.woocommerce.v1"
    assert headers["ce_source"] == f"/sources/{endpoint.slug}"
    assert headers["ce_callbacktopic"] == "order.updated"
    assert headers["traceparent"].startswith(TRACE[:36])
    assert headers["traceparent"] != TRACE
    assert len(headers["ce_time"]) == len("2026-11-20T15:30:00.000000Z")


def test_what_the_endpoint_publishes_the_worker_reads(endpoint: WebhookEndpointProcess) -> None:
    assert endpoint.send(body(1)).status_code == 200
    assert endpoint.send(b'{"id":2}', callback_type="order.deleted").status_code == 200
    orders = {
        (callback := vendors.parse(record)).order_id: [fact.name for fact in callback.facts]
        for record in endpoint.records()
    }
    assert orders == {
        f"{endpoint.slug}:1": ["storefront", "reached:processing"],
        f"{endpoint.slug}:2": ["deletion"],
    }


@pytest.mark.parametrize("secret", [OLD_SECRET, SECRET])
def test_both_secrets_are_valid_while_one_is_replaced(
    endpoint: WebhookEndpointProcess, secret: str
) -> None:
    assert endpoint.send(body(), secret=secret).status_code == 200


@pytest.mark.parametrize(
    "malformed", [b"", b"{", b"\x00\xff", b"[" * 50_000, b'{"id":"x"}', b'{"id":727}']
)
def test_a_signed_body_that_is_malformed_is_accepted_and_becomes_a_dead_letter(
    endpoint: WebhookEndpointProcess, malformed: bytes
) -> None:
    assert endpoint.send(malformed).status_code == 200
    (kept,) = endpoint.records()
    assert kept.value == malformed
    with pytest.raises(CallbackUnreadable):
        SERVICE.parse(kept)
    assert SERVICE.subject(kept) == (f"{endpoint.slug}:727" if malformed == b'{"id":727}' else None)


def test_a_ping_is_answered_with_200_exactly_and_keeps_nothing(
    endpoint: WebhookEndpointProcess,
) -> None:
    answer = endpoint.client.post(f"/hooks/{endpoint.slug}", data={"webhook_id": "12"})
    assert answer.status_code == 200
    assert endpoint.records() == []


def test_refusals_are_problems_and_keep_nothing(endpoint: WebhookEndpointProcess) -> None:
    sent, path = body(), f"/hooks/{endpoint.slug}"
    good = signed(sent, SECRET)
    post = endpoint.client.post
    is_problem(post("/hooks/nobody", content=sent, headers=good), 404)
    is_problem(endpoint.client.get(path), 405)
    is_problem(endpoint.client.get("/elsewhere"), 404)
    is_problem(post(path, content=sent, headers=good | {"Content-Type": "text/plain"}), 415)
    is_problem(post(path, content=sent, headers=good | {"Content-Encoding": "gzip"}), 415)
    is_problem(post(path, data={"webhook_id": "12", "more": "1"}), 415)
    is_problem(
        post(
            path, content=sent, headers=good | {"X-WC-Webhook-Signature": signature(sent, "wrong")}
        ),
        401,
    )
    is_problem(post(path, content=sent + b" ", headers=good), 401)
    is_problem(post(path, content=sent, headers={"Content-Type": "application/json"}), 401)
    bare = post(f"{path}-bare", content=sent, headers=good)
    is_problem(bare, 503)
    assert bare.headers["retry-after"] == "10"
    assert endpoint.records() == []


def test_a_body_is_refused_while_it_is_read_and_not_after(endpoint: WebhookEndpointProcess) -> None:
    limit = 2**20 - 16 * 1_024
    assert endpoint.send(b" " * limit).status_code == 200
    is_problem(endpoint.send(b" " * (limit + 1)), 413)
    with socket.create_connection(("127.0.0.1", endpoint.client.base_url.port or 0), 10) as raw:
        head = (
            f"POST /hooks/{endpoint.slug} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        )
        raw.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        answer = b""
        for _ in range(17):  # never its end
            raw.sendall(chunk)
        answer = raw.recv(4_096)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert len(endpoint.records()) == 1


def test_a_body_that_does_not_arrive_is_not_waited_for(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    with WebhookEndpointProcess(
        bootstrap_servers, prefix, tmp_path, webhook_body_wait_ms=200
    ) as endpoint:
        with socket.create_connection(("127.0.0.1", endpoint.client.base_url.port or 0), 10) as raw:
            head = f"POST /hooks/{endpoint.slug} HTTP/1.1\r\nHost: x\r\n"
            raw.sendall(
                head.encode() + b"Content-Type: application/json\r\nContent-Length: 10\r\n\r\nabc"
            )
            assert raw.recv(4_096).startswith(b"HTTP/1.1 408 ")
        assert endpoint.send(body()).status_code == 200


def test_no_secret_no_signature_and_no_body_reaches_the_log(
    own_endpoint: WebhookEndpointProcess,
) -> None:
    sent = body(customer_note="the-note-of-a-customer")
    own_endpoint.send(sent)
    own_endpoint.send(sent, secret="wrong")
    own_endpoint.send(b"the-note-of-a-customer")
    until(
        "a line counts the wrong signature",
        lambda: "wrong signatures" in own_endpoint.log(),
    )
    assert own_endpoint.stop() == 0
    log = own_endpoint.log()
    assert not [
        text
        for text in (
            SECRET,
            "the-note-of-a-customer",
            signature(sent, SECRET),
            signature(sent, "wrong"),
        )
        if text in log
    ]


def test_what_the_endpoint_did_is_in_its_metrics(own_endpoint: WebhookEndpointProcess) -> None:
    own_endpoint.send(body())
    own_endpoint.send(body(), secret="wrong")
    own_endpoint.until_metric(
        f'stubline_ingest_webhook_callbacks_total{{source="{own_endpoint.slug}",status="200"}} 1.0'
    )
    own_endpoint.until_metric(
        f'stubline_ingest_webhook_callbacks_total{{source="{own_endpoint.slug}",status="401"}} 1.0'
    )
    metrics_text = own_endpoint.metrics()
    assert 'stubline_ingest_webhook_sources{state="refused"} 1.0' in metrics_text
    assert "stubline_ingest_webhook_acknowledgement_seconds_count 1.0" in metrics_text
    assert own_endpoint.client.get("/livez").status_code == 200


class Storm:
    """Several senders at once; each remembers what was acknowledged."""

    def __init__(self, endpoint: WebhookEndpointProcess, senders: int = 8) -> None:
        self.taken: set[bytes] = set()
        self.refused: list[httpx.Response] = []
        self._endpoint, self._stopping, self._lock = endpoint, threading.Event(), threading.Lock()
        self._threads = [
            threading.Thread(target=self._send, args=(number,)) for number in range(senders)
        ]

    def _send(self, sender: int) -> None:
        with httpx.Client(base_url=self._endpoint.client.base_url, timeout=30) as client:
            number = sender * 1_000_000
            while not self._stopping.is_set():
                number += 1
                sent = body(number)
                try:
                    answer = client.post(
                        f"/hooks/{self._endpoint.slug}", content=sent, headers=signed(sent, SECRET)
                    )
                except httpx.HTTPError:
                    time.sleep(0.05)
                    continue
                with self._lock:
                    if answer.status_code == 200:
                        self.taken.add(sent)
                    else:
                        self.refused.append(answer)
                        time.sleep(0.02)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def until(self, count: int, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while len(self.taken) < count:
            assert time.monotonic() < end, (
                f"{len(self.taken)} of {count} taken, {len(self.refused)} refused"
            )
            time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)


def nothing_is_lost(endpoint: WebhookEndpointProcess, storm: Storm) -> None:
    kept = {record.value for record in endpoint.records()}
    assert storm.taken
    assert storm.taken - kept == set()


@pytest.mark.slow
def test_a_paused_broker_is_answered_as_503_and_nothing_that_was_accepted_is_lost(
    stack: Stack, bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    with WebhookEndpointProcess(
        bootstrap_servers, prefix, tmp_path, webhook_acknowledgement_wait_ms=1_000
    ) as endpoint:
        with Storm(endpoint) as storm:
            storm.until(50)
            stack.kafka[0].pause()
            try:
                begun, before = time.monotonic(), len(storm.refused)
                while len(storm.refused) - before < 20:
                    assert time.monotonic() - begun < 120
                    time.sleep(0.05)
                while (answer := endpoint.health.get("/readyz")).status_code == 200:
                    assert time.monotonic() - begun < 15
                assert answer.json()["detail"].startswith("broker-unavailable: ")
                while_paused = len(storm.taken)
                time.sleep(0.5)
                assert len(storm.taken) == while_paused
                assert endpoint.client.get("/livez").status_code == 200
            finally:
                stack.kafka[0].resume()
            storm.until(len(storm.taken) + 50, 40)
        for answer in storm.refused:
            is_problem(answer, 503)
            assert int(answer.headers["retry-after"]) > 0
        nothing_is_lost(endpoint, storm)


@pytest.mark.slow
def test_a_broker_that_dies_and_comes_back_loses_nothing_that_was_accepted(
    stack: Stack, bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    with WebhookEndpointProcess(
        bootstrap_servers, prefix, tmp_path, webhook_acknowledgement_wait_ms=1_000
    ) as endpoint:
        with Storm(endpoint) as storm:
            storm.until(50)
            stack.kafka[0].stop(immediate=True)
            time.sleep(2)
            stack.kafka[0].start()
            storm.until(len(storm.taken) + 50, 40)
        assert {answer.status_code for answer in storm.refused} <= {503}
        nothing_is_lost(endpoint, storm)
        assert endpoint.stop() == 0


@pytest.mark.slow
def test_an_endpoint_that_starts_without_a_broker_reports_it_and_serves_when_there_is_one(
    stack: Stack, bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    with WebhookEndpointProcess(bootstrap_servers, prefix, tmp_path) as endpoint:
        endpoint.kill()
        stack.kafka[0].pause()
        try:
            endpoint.start(await_ready=False)
            is_problem(endpoint.health.get("/readyz"), 503)
            is_problem(endpoint.send(body()), 503)
        finally:
            stack.kafka[0].resume()
        until = time.monotonic() + 120
        while endpoint.send(body()).status_code != 200:
            assert time.monotonic() < until
            time.sleep(0.1)


def test_sigterm_answers_what_it_took_and_ends_cleanly(
    own_endpoint: WebhookEndpointProcess,
) -> None:
    with Storm(own_endpoint) as storm:
        storm.until(100)
        assert own_endpoint.stop() == 0
    assert {answer.status_code for answer in storm.refused} <= {503}
    nothing_is_lost(own_endpoint, storm)


def test_kill_9_loses_nothing_that_was_accepted(own_endpoint: WebhookEndpointProcess) -> None:
    with Storm(own_endpoint) as storm:
        storm.until(100)
        own_endpoint.kill()
    nothing_is_lost(own_endpoint, storm)


@pytest.mark.slow
def test_more_than_fits_is_answered_with_retry_after(
    stack: Stack, bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    with WebhookEndpointProcess(
        bootstrap_servers,
        prefix,
        tmp_path,
        webhook_in_flight_max=4,
        webhook_acknowledgement_wait_ms=50_000,
    ) as endpoint:
        stack.kafka[0].pause()
        try:
            with Storm(endpoint, senders=12) as storm:
                until = time.monotonic() + 20
                while not storm.refused and time.monotonic() < until:
                    time.sleep(0.05)
                at_once = list(storm.refused)
                stack.kafka[0].resume()
                storm.until(20)
        finally:
            stack.kafka[0].resume()
        assert at_once
        assert {answer.json()["detail"] for answer in at_once} == {"too many callbacks at once"}
        nothing_is_lost(endpoint, storm)


def test_a_flood_is_answered_with_429_and_unauthenticated_callers_use_up_nothing(
    bootstrap_servers: str, prefix: str, tmp_path: Path
) -> None:
    with WebhookEndpointProcess(
        bootstrap_servers, prefix, tmp_path, webhook_source_rate_max=3
    ) as own:
        assert {own.send(body(1), secret="nobody's").status_code for _ in range(20)} == {401}
        began = time.monotonic()
        answers = [own.send(body(number)) for number in range(1, 21)]
        codes = [answer.status_code for answer in answers]
        assert codes.count(200) + codes.count(429) == 20
        assert (
            6 <= codes.count(200) <= 6 + 3 * (time.monotonic() - began) + 1
        )  # twice its rate at once, then its rate
        for slow in (answer for answer in answers if answer.status_code == 429):
            assert (slow.headers["retry-after"], slow.json()["detail"]) == (
                "1",
                "too many callbacks of this source",
            )
        until("its rate lets one in", lambda: own.send(body(99)).status_code == 200)
        assert len(own.records()) == codes.count(200) + 1


@pytest.mark.parametrize(
    ("name", "reported"),
    [
        ("STUBLINE_INGEST_WEBHOOK_PROT", "STUBLINE_INGEST_WEBHOOK_PORT"),
        ("STUBLINE_INGEST_SOURCES_FILE", "cannot be read"),
    ],
)
def test_a_wrong_configuration_ends_the_start_with_one_line(
    tmp_path: Path, name: str, reported: str
) -> None:
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "PATH": "",
        name: str(tmp_path / "none"),
    }
    command = [sys.executable, "-m", "services.ingest.webhooks"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 78
    assert reported in done.stderr
    assert done.stderr.count("\n") == 1

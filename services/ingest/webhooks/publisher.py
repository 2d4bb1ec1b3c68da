"""Publishes the endpoint's records to Kafka; each is awaited until all in-sync replicas have it.

One thread polls the producer. Acknowledgements cross into the event loop in batches, with one
wake-up for many.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, KafkaException, Message, Producer

from schemas.envelope import Output
from services.ingest.errors import ClockSkewed, WebhookProducerFailed
from services.ingest.metrics import WEBHOOK_ACKNOWLEDGEMENT, WEBHOOK_CLOCK_SKEW
from services.ingest.webhooks.clock_skew import ClockSkewMonitor, skew_seconds
from services.runtime.errors import BrokerUnavailable, Fatal, InputMissing
from services.runtime.kafka.client import LOGGER, producer_settings
from services.runtime.kafka.cluster import KafkaCluster
from services.runtime.kafka.connections import ConnectionErrors
from services.runtime.kafka.credentials import CredentialsWatch
from services.runtime.kafka.topics import BrokerRefused
from services.runtime.observability import logs
from services.runtime.observability.log_limits import RepeatLimiter

POLL_S = 0.1
PROBE_INTERVAL_S = 1.0
EXPIRY_CHECK_S = 0.1


class Acknowledgement(NamedTuple):
    """The result of one record, handed from the polling thread to the event loop."""

    since: float
    future: asyncio.Future[None]
    error: KafkaError | None
    skew_s: float | None  # None: the broker did not stamp it


class CallbackNotAcknowledgedError(Exception):
    """Kafka did not acknowledge the record; it may have it or not, and the sender repeats it."""


class CallbackPublisher:
    """Used in one event loop. `on_fatal` is called there when the producer has failed for good."""

    def __init__(
        self,
        cluster: KafkaCluster | str,
        topic: str,
        *,
        records_max: int,
        bytes_max: int,
        wait_s: float,
        on_fatal: Callable[[Fatal], None],
        skew_warning_s: float = 2.0,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._cluster = cluster = KafkaCluster.of(cluster)
        self._connections = ConnectionErrors(cluster)
        settings = producer_settings(cluster, "stubline-webhooks", int(wait_s * 1_000))
        bounds: dict[str, object] = {
            "queue.buffering.max.messages": records_max,
            "queue.buffering.max.kbytes": max(1, bytes_max // 1_024),
            "error_cb": self._on_error,
        }
        self._producer = Producer(settings | bounds, logger=LOGGER)
        self._credentials = CredentialsWatch(cluster.settings, self._producer)
        self._topic, self._wait_s, self._on_fatal = cluster.with_prefix(topic), wait_s, on_fatal
        self._loop = asyncio.get_running_loop()
        self._pending: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._acknowledged: deque[Acknowledgement] = deque()
        self._wall, self._skew = wall, ClockSkewMonitor(skew_warning_s)
        self._is_woken = self._stopping = False
        self._needs_probe = False  # all connections were lost: probe even if nobody publishes
        self._problem: str | None = "starting: Kafka has not answered yet"
        self._fatal: Fatal | None = None
        self._log, self._repeats = logs.get("webhooks"), RepeatLimiter()
        self._thread = threading.Thread(target=self._poll, name="publisher", daemon=True)
        self._thread.start()
        self._sweeper = self._loop.create_task(self._sweep())

    @property
    def problem(self) -> str | None:
        """Why a record would not be acknowledged now: an error's code, a colon and the cause."""
        if self._fatal is not None:
            return f"{self._fatal.code}: {self._fatal.cause}"
        return self._problem

    @property
    def degraded(self) -> str:
        """A warning that does not stop publishing; empty when there is none."""
        return self._skew.warning

    @property
    def is_alive(self) -> bool:
        return self._fatal is None and self._thread.is_alive()

    def publish(self, output: Output) -> asyncio.Future[None]:
        """Return a future that ends when the record is durable, or fails with
        CallbackNotAcknowledgedError. Raises that error at once while Kafka is known to be
        unavailable.
        """
        if self._problem is not None or self._fatal is not None:
            raise CallbackNotAcknowledgedError(self.problem)
        now, future = time.monotonic(), self._loop.create_future()
        try:
            self._producer.produce(
                self._cluster.with_prefix(output.topic),
                output.value,
                output.key,
                headers=list(output.headers),
                on_delivery=partial(self._delivered, now, self._wall(), future),
            )
        except (BufferError, KafkaException) as error:
            raise CallbackNotAcknowledgedError(str(error)) from None
        self._pending.append((now + self._wait_s, future))
        return future

    async def close(self, seconds: float) -> None:
        """Flush for so many seconds, then end the thread."""
        self._sweeper.cancel()
        await asyncio.to_thread(self._producer.flush, seconds)
        self._stopping = True
        await asyncio.to_thread(self._thread.join, 5)

    # In the polling thread.

    def _poll(self) -> None:
        probed = 0.0
        while not self._stopping:
            if (
                self._problem is not None or self._needs_probe
            ) and time.monotonic() - probed > PROBE_INTERVAL_S:
                self._needs_probe = False
                self._probe()
                probed = time.monotonic()
            self._producer.poll(POLL_S)
            self._renew_credentials()

    def _renew_credentials(self) -> None:
        """Renew the credentials. A changed certificate ends the process, once."""
        if self._fatal is not None:
            return
        try:
            self._credentials.refresh()
        except Fatal as error:
            self._fail(error)

    def _probe(self) -> None:
        """Check whether Kafka answers and has the topic. Called only while that is in doubt."""
        try:
            listed = self._producer.list_topics(self._topic, timeout=PROBE_INTERVAL_S)
        except KafkaException as error:
            fault = self._connections.unavailable(f"Kafka does not answer: {error.args[0].name()}")
            self._problem = f"{fault.code}: {fault.cause}"
            return
        self._connections.clear()
        metadata = listed.topics[self._topic]
        if metadata.error is None:
            self._problem = None
            return
        is_missing = metadata.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
        code = InputMissing.code if is_missing else BrokerRefused.code
        self._problem = f"{code}: {self._topic}: {metadata.error.name()}"

    def _delivered(
        self,
        since: float,
        produced_at: float,
        future: asyncio.Future[None],
        error: KafkaError | None,
        message: Message,
    ) -> None:
        stamped_by, logged_ms = message.timestamp()
        is_stamped = error is None and stamped_by == TIMESTAMP_LOG_APPEND_TIME
        skew = skew_seconds(produced_at, self._wall(), logged_ms / 1_000) if is_stamped else None
        self._acknowledged.append(Acknowledgement(since, future, error, skew))
        if not self._is_woken:
            self._is_woken = True
            self._loop.call_soon_threadsafe(self._settle)

    def _fail(self, error: Fatal) -> None:
        self._fatal = error
        self._loop.call_soon_threadsafe(self._on_fatal, error)

    def _on_error(self, error: KafkaError) -> None:
        self._connections.report(error)
        if error.fatal():
            self._fail(WebhookProducerFailed(f"the producer failed: {error.name()}"))
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - its public name
            self._needs_probe = True

    # In the event loop.

    def _settle(self) -> None:
        self._is_woken = False  # before the queue is read: later acknowledgements wake us again
        oldest: float | None = None
        skew: float | None = None
        while self._acknowledged:
            since, future, error, skew_s = self._acknowledged.popleft()
            if error is None:
                oldest = since if oldest is None else oldest
                skew = skew_s
            if future.done():
                continue  # it waited too long and was answered with 503
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(CallbackNotAcknowledgedError(error.name()))
        if oldest is not None:
            WEBHOOK_ACKNOWLEDGEMENT.observe(time.monotonic() - oldest)
        if skew is not None:
            self._report_skew(skew)

    def _report_skew(self, seconds: float) -> None:
        self._skew.measured(seconds)
        WEBHOOK_CLOCK_SKEW.set(seconds)
        if self._skew.is_to_be_reported(time.monotonic()):
            self._log.warning(
                "clock skew",
                code=ClockSkewed.code,
                error=self._skew.warning,
                skew_s=round(seconds, 3),
            )

    async def _sweep(self) -> None:
        """Fail records that waited too long, and refuse new ones until Kafka answers again, so that
        no other caller waits in vain.
        """
        while True:
            await asyncio.sleep(EXPIRY_CHECK_S)
            now = time.monotonic()
            while self._pending and (self._pending[0][1].done() or self._pending[0][0] < now):
                _, future = self._pending.popleft()
                if not future.done():
                    if (
                        self._problem is None
                        and (suppressed := self._repeats.due(BrokerUnavailable.code)) is not None
                    ):
                        more = {"waited_s": self._wait_s, "suppressed": suppressed}
                        self._log.warning(
                            "kafka does not acknowledge", code=BrokerUnavailable.code, **more
                        )
                    self._problem = (
                        f"{BrokerUnavailable.code}: Kafka did not acknowledge within "
                        f"{self._wait_s:g} s"
                    )
                    future.set_exception(CallbackNotAcknowledgedError(self._problem))

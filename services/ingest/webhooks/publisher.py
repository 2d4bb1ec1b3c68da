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

from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicCollection,
)
from confluent_kafka.admin import AclOperation, AdminClient

from schemas.envelope import Output
from services.ingest.errors import ClockSkewed, WebhookProducerFailed
from services.ingest.metrics import WEBHOOK_ACKNOWLEDGEMENT, WEBHOOK_CLOCK_SKEW
from services.ingest.webhooks.clock_skew import ClockSkewMonitor, skew_seconds
from services.runtime.errors import BrokerUnavailable, Fatal, InputMissing, OutputUnauthorized
from services.runtime.kafka.client import LOGGER, UNAUTHORIZED, producer_settings
from services.runtime.kafka.cluster import KafkaCluster
from services.runtime.kafka.connections import ConnectionErrors
from services.runtime.kafka.credentials import CredentialsWatch
from services.runtime.kafka.topics import BrokerRefused
from services.runtime.observability import logs
from services.runtime.observability.log_limits import RepeatLimiter
from services.runtime.settings import ConfigurationError

CLIENT_ID = "stubline-webhooks"
POLL_S = 0.1
PROBE_INTERVAL_S = 1.0
EXPIRY_CHECK_S = 0.1
MISSING = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}  # noqa: SLF001 - its public name
)
# Refusals that are about one record: the next one may be taken.
OF_ONE_RECORD = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
    }
)


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
        self._bounds: dict[str, object] = {
            "queue.buffering.max.messages": records_max,
            "queue.buffering.max.kbytes": max(1, bytes_max // 1_024),
            "error_cb": self._on_error,
        }
        self._topic, self._wait_s, self._on_fatal = topic, wait_s, on_fatal
        self._producer, self._admin = self._new_producer(), self._new_admin()
        self._credentials = CredentialsWatch(cluster.settings, self._producer, self._admin)
        self._loop = asyncio.get_running_loop()
        self._pending: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._acknowledged: deque[Acknowledgement] = deque()
        self._wall, self._skew = wall, ClockSkewMonitor(skew_warning_s)
        self._is_woken = self._stopping = False
        self._needs_probe = False  # all connections were lost: probe even if nobody publishes
        self._probe_at = 0.0  # by the monotonic clock
        self._needs_producer = False  # without any right to write a producer ends for good
        self._problem: str | None = "starting: Kafka has not answered yet"
        self._fatal: Fatal | None = None
        self._log, self._repeats = logs.get("webhooks"), RepeatLimiter()
        self._thread = threading.Thread(target=self._poll, name="publisher", daemon=True)
        self._thread.start()
        self._sweeper = self._loop.create_task(self._sweep())

    def _new_producer(self) -> Producer:
        """Its settings are read again: a secret may have changed since the last one was made."""
        own = producer_settings(self._cluster, CLIENT_ID, int(self._wait_s * 1_000))
        return self._cluster.make(Producer, own | self._bounds, logger=LOGGER)

    def _new_admin(self) -> AdminClient:
        own = self._cluster.client_settings({"client.id": CLIENT_ID})
        own["error_cb"] = self._connections.report
        return self._cluster.make(AdminClient, own, logger=LOGGER)

    @property
    def problem(self) -> str | None:
        """Why a record would not be acknowledged now: an error's code, a colon and the cause."""
        if self._fatal is not None:
            return f"{self._fatal.code}: {self._fatal.cause}"
        return self._problem

    @property
    def _not_acknowledged(self) -> str:
        return f"{BrokerUnavailable.code}: Kafka did not acknowledge within {self._wait_s:g} s"

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
        except BufferError as error:
            raise CallbackNotAcknowledgedError(str(error)) from None
        except KafkaException as error:
            self._refused(error.args[0])
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
        while not self._stopping:
            is_doubtful = self._problem is not None or self._needs_probe
            if is_doubtful and time.monotonic() > self._probe_at:
                self._needs_probe = False
                self._probe()
                self._probe_at = time.monotonic() + PROBE_INTERVAL_S
            try:
                self._producer.poll(POLL_S)
            except KafkaException as error:  # the client raises what is fatal
                self._producer_ended(error.args[0])
            self._admin.poll(0)  # serves its log lines, which would be kept in memory until then
            self._renew_credentials()

    def _producer_ended(self, error: KafkaError) -> None:
        """The producer will never send again. Without any right to write, the broker gave it no
        producer id: another one is made once the right is granted.
        """
        if error.code() in UNAUTHORIZED:
            self._needs_producer = True
            self._refused(error)
        elif self._fatal is None:
            self._fail(WebhookProducerFailed(f"the producer failed: {error.name()}"))

    def _renew_credentials(self) -> None:
        """Renew the credentials. A changed certificate ends the process, once."""
        if self._fatal is not None:
            return
        try:
            self._credentials.refresh()
        except Fatal as error:
            self._fail(error)

    def _probe(self) -> None:
        """Check whether Kafka answers, has the topic, and lets us write to it. Called only while
        that is in doubt.
        """
        name = self._cluster.with_prefix(self._topic)
        try:
            listed = self._producer.list_topics(name, timeout=PROBE_INTERVAL_S)
        except KafkaException as error:
            fault = self._connections.unavailable(f"Kafka does not answer: {error.args[0].name()}")
            self._problem = f"{fault.code}: {fault.cause}"
            return
        self._connections.clear()
        if (refused := listed.topics[name].error) is not None:
            self._problem = self._refusal(refused)
        elif (problem := self._problem_of_rights(name)) is not None:
            self._problem = problem
        else:
            self._problem = self._replace_producer()

    def _problem_of_rights(self, name: str) -> str | None:
        """Return why we may not write. That the topic is visible proves no right to write, and the
        endpoint cannot try it out: while it is not ready, no callback may come.
        """
        try:
            described = self._admin.describe_topics(
                TopicCollection([name]),
                include_authorized_operations=True,
                request_timeout=PROBE_INTERVAL_S,
            )
            operations = described[name].result(2 * PROBE_INTERVAL_S).authorized_operations
        except KafkaException as error:
            return self._refusal(error.args[0])
        except TimeoutError:
            return f"{BrokerUnavailable.code}: Kafka does not answer: describe topics"
        # None: the broker does not report rights, so the next record has to show them.
        if operations is None or AclOperation.WRITE in operations:
            return None
        return f"{OutputUnauthorized.code}: {self._topic}: no right to write"

    def _refusal(self, error: KafkaError) -> str:
        """Return the problem that an error of the broker is."""
        if error.code() in UNAUTHORIZED:
            code = OutputUnauthorized.code
        elif error.code() in MISSING:
            code = InputMissing.code
        elif error.code() < 0:  # the client's own: no answer, no connection
            code = BrokerUnavailable.code
        else:
            code = BrokerRefused.code
        return f"{code}: {self._topic}: {error.name()}"

    def _refused(self, error: KafkaError) -> None:
        """Refuse records from now on, until a probe shows that the next one will be taken. What
        only one record causes is its own sender's matter.
        """
        if error.code() in OF_ONE_RECORD:
            return
        self._probe_at = time.monotonic() + PROBE_INTERVAL_S  # /readyz and the log show it before
        if error.code() == KafkaError._MSG_TIMED_OUT:  # noqa: SLF001 - its public name
            self._problem = self._not_acknowledged
        else:
            self._problem = self._refusal(error)

    def _replace_producer(self) -> str | None:
        """Make another producer if the last one ended. Return why that is not possible yet."""
        if self._needs_producer:
            try:
                ended, self._producer = self._producer, self._new_producer()
            except ConfigurationError as error:  # the file of a secret is just being replaced
                return f"{BrokerUnavailable.code}: {error}"
            self._credentials.replace(ended, self._producer)
            self._needs_producer = False
        return None

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
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - its public name
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
                self._refused(error)
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
                    self._problem = self._problem or self._not_acknowledged
                    future.set_exception(CallbackNotAcknowledgedError(self._problem))

"""The connections of a sender: a thread, a database session and an SMTP connection each.

The first one leases whenever jobs are due. It wakes the next when more are due than it may lease,
and so on, so a quiet sender has one session and one connection. While the first one is busy for
long, the others lease by themselves. A further one sends what has to be
laid out, which takes a few hundred times as long as a stamp and would hold up the mails behind it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg

from services.delivery.sender.loop import Sender
from services.delivery.sender.store import PlannedSend
from services.runtime.failures import classification
from services.runtime.failures.backoff import Backoff
from services.runtime.process import StopRequest

PARKED_JOBS_MAX = 8  # that wait to be laid out; from then on each connection lays out its own
CHECK_INTERVAL_S = 0.5  # how often a thread without work sees whether the process is stopped
BUSY_S_MAX = 1.0  # the first connection has not leased for so long: the others do not wait for it


class WakeupSignal:
    """Wakes connections that have no work, each at most once for each time that it waits."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting = self._woken = 0

    def wake_one(self) -> None:
        with self._changed:
            if self._woken < self._waiting:
                self._woken += 1
                self._changed.notify()

    def wait(self, seconds: float) -> bool:
        """Return whether this connection was woken."""
        with self._changed:
            self._waiting += 1
            is_woken = self._changed.wait_for(lambda: self._woken > 0, seconds)
            self._waiting -= 1
            if is_woken:
                self._woken -= 1
            self._woken = min(self._woken, self._waiting)
            return is_woken


class ParkedJobs:
    """Leased jobs that wait for the connection that lays out."""

    def __init__(self, jobs_max: int = PARKED_JOBS_MAX) -> None:
        self._jobs: queue.Queue[PlannedSend] = queue.Queue(jobs_max)

    def put(self, send: PlannedSend) -> bool:
        """Return whether there was room."""
        try:
            self._jobs.put_nowait(send)
        except queue.Full:
            return False
        return True

    def take(self, seconds: float) -> list[PlannedSend]:
        """Return the next job, or nothing after so many seconds."""
        try:
            return [self._jobs.get(timeout=seconds)]
        except queue.Empty:
            return []

    def take_all(self) -> list[PlannedSend]:
        taken: list[PlannedSend] = []
        with suppress(queue.Empty):
            while True:
                taken.append(self._jobs.get_nowait())
        return taken


@dataclass(slots=True)
class Connections:
    """Runs the senders of a process until it is stopped. Each has a context of its own, with one
    session and one SMTP connection.
    """

    senders: Sequence[Sender]  # the first leases by itself, the others when they are woken
    layout_sender: Sender
    parked: ParkedJobs
    wakeups: WakeupSignal
    stop_request: StopRequest
    idle_wait_s: float
    backoff_max_s: float
    _first_leased_at: float = field(default_factory=time.monotonic)
    _failed: list[BaseException] = field(default_factory=list)

    def run(self) -> None:
        """Raises what ended a connection, once all of them have ended."""
        first, *others = self.senders
        threads = [
            self._thread(f"connection-{number}", sender, sender.step, self._wait_for_wakeup)
            for number, sender in enumerate(others, 2)
        ]
        # Taking a parked job waits for it.
        threads.append(self._thread("layout", self.layout_sender, self._lay_out, lambda: None))
        for thread in threads:
            thread.start()
        self._work(first, self._step_first, self._wait_for_jobs, self.stop_request.wait)
        for thread in threads:
            thread.join()
        self.layout_sender.release([send.intent.job for send in self.parked.take_all()])
        if self._failed:
            raise self._failed[0]

    @property
    def all_senders(self) -> list[Sender]:
        return [*self.senders, self.layout_sender]

    def _thread(
        self, name: str, sender: Sender, step: Callable[[], bool], wait: Callable[[], None]
    ) -> threading.Thread:
        arguments = (sender, step, wait, self._back_off)
        return threading.Thread(target=self._work, args=arguments, name=name, daemon=True)

    def _work(
        self,
        sender: Sender,
        step: Callable[[], bool],
        wait: Callable[[], None],
        back_off: Callable[[float], None],
    ) -> None:
        """Step after step until the end. What one connection raises ends the others too."""
        context = sender.context
        backoff = Backoff(self.backoff_max_s, context.rng)
        while not self._is_ending():
            try:
                is_busy = step()
                backoff.record_success(context.clock())
                if not is_busy:
                    wait()
            except psycopg.Error as error:
                code = classification.code_of(error)
                wait_s = backoff.record_failure(code, context.clock())
                context.telemetry.database_unavailable(error, wait_s)
                context.telemetry.iteration_done(is_ready=False, reason=code)
                context.queue.close()
                back_off(wait_s)
            except BaseException as error:  # noqa: BLE001 - raised again by `run`
                self._failed.append(error)

    def _step_first(self) -> bool:
        self._first_leased_at = time.monotonic()
        return self.senders[0].step()

    def _lay_out(self) -> bool:
        self.layout_sender.write_results()
        self.layout_sender.work(self.parked.take(CHECK_INTERVAL_S))
        return True

    def _is_ending(self) -> bool:
        return self.stop_request.is_set or bool(self._failed)

    def _wait_for_jobs(self) -> None:
        self.stop_request.wait(self.idle_wait_s)

    def _wait_for_wakeup(self) -> None:
        while not self._is_ending() and not self.wakeups.wait(CHECK_INTERVAL_S):
            if time.monotonic() - self._first_leased_at > self.idle_wait_s + BUSY_S_MAX:
                return

    def _back_off(self, seconds: float) -> None:
        """Wait in a thread that no signal wakes."""
        ends_at = time.monotonic() + seconds
        while not self._is_ending() and (left_s := ends_at - time.monotonic()) > 0:
            time.sleep(min(CHECK_INTERVAL_S, left_s))

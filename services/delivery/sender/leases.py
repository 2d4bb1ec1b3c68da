"""Renews the leases of a sender's jobs while a long order renders or a slow server answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import psycopg

from services.delivery.sender.rules import LeasedJob
from services.delivery.sender.store import JobQueue
from services.runtime.errors import Fatal
from services.runtime.observability import logs


class LeaseRenewer:
    """A thread with a session of its own, for all connections of a sender. It renews a lease no
    longer than rendering may take, so that a connection that hangs loses its jobs.
    """

    def __init__(
        self,
        queue: JobQueue,
        *,
        lease_s: float,
        work_s_max: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue, self._lease_s, self._work_s_max = queue, lease_s, work_s_max
        self._clock = clock
        self._held: dict[LeasedJob, float] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease-renewer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(5)

    def hold(self, jobs: Sequence[LeasedJob]) -> None:
        with self._lock:
            self._held |= dict.fromkeys(jobs, self._clock())

    def begin(self, job: LeasedJob, waiting: Sequence[LeasedJob]) -> None:
        """Start the time of the job that a connection works now. The time of those that wait for
        the same connection does not run meanwhile.
        """
        self.hold([job, *waiting])

    def release(self, jobs: Sequence[LeasedJob]) -> None:
        with self._lock:
            for job in jobs:
                self._held.pop(job, None)

    def _renew(self) -> None:
        log = logs.get("leases")
        while not self._ended.wait(self._lease_s / 3):
            with self._lock:
                now = self._clock()
                jobs = [job for job, since in self._held.items() if now - since < self._work_s_max]
            if not jobs:
                continue
            try:
                self._queue.renew(jobs, self._lease_s)
            except (psycopg.Error, Fatal) as error:  # the sender itself meets Fatal, and ends
                log.warning("leases not renewed", error=logs.describe(error))
                self._queue.close()
        self._queue.close()

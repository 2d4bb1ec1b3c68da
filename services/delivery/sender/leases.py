"""Keeps the leases of what a sender has in hand, while a long order renders or a slow server
answers.
"""

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
    """A thread with a connection of its own. It beats for a job no longer than rendering may take:
    a sender that hangs lets go of it.
    """

    def __init__(
        self,
        desk: JobQueue,
        *,
        lease_s: float,
        work_s_max: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._desk, self._lease_s, self._work_s_max, self._clock = desk, lease_s, work_s_max, clock
        self._held: dict[LeasedJob, float] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heart", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(5)

    def hold(self, jobs: Sequence[LeasedJob]) -> None:
        with self._lock:
            self._held |= dict.fromkeys(jobs, self._clock())

    def begin(self, job: LeasedJob) -> None:
        """Its work starts now: those that wait for their turn behind a long one do not grow old by
        it.
        """
        with self._lock:
            now = self._clock()
            self._held = dict.fromkeys(self._held, now) | {job: now}

    def release(self, jobs: Sequence[LeasedJob]) -> None:
        with self._lock:
            for job in jobs:
                self._held.pop(job, None)

    def _beat(self) -> None:
        log = logs.get("heart")
        while not self._ended.wait(self._lease_s / 3):
            with self._lock:
                now = self._clock()
                jobs = [job for job, since in self._held.items() if now - since < self._work_s_max]
            if not jobs:
                continue
            try:
                self._desk.renew(jobs, self._lease_s)
            except (
                psycopg.Error,
                Fatal,
            ) as error:  # the sender itself meets what is fatal, and ends for it
                log.warning("leases not renewed", error=logs.describe(error))
                self._desk.close()
        self._desk.close()

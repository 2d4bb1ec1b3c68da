"""What a sender does beside its mails: it counts the jobs, and removes files that are not used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from services.delivery.sender.cleanup import FileCleanup
from services.delivery.sender.store import JobQueue
from services.delivery.sender.telemetry import SenderTelemetry

COUNT_INTERVAL_S = 5.0


@dataclass(slots=True)
class HousekeepingTask:
    """Belongs to one of the connections, whose session it uses. Each step is bounded."""

    queue: JobQueue
    telemetry: SenderTelemetry
    cleanup: FileCleanup
    clock: Callable[[], float]
    _counted_at: float = float("-inf")

    def step(self) -> None:
        """Raises what the database raises."""
        now = self.clock()
        if now - self._counted_at >= COUNT_INTERVAL_S:
            self.telemetry.jobs_counted(self.queue.count_jobs())
            self._counted_at = now
        self.cleanup.step()

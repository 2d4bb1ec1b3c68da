"""Whether the webhook endpoint can keep callbacks: at its health server, and in the log once a
minute and cause.
"""

from __future__ import annotations

from services.ingest.webhooks.publisher import CallbackPublisher
from services.runtime.observability import logs
from services.runtime.observability.health import Health
from services.runtime.observability.log_limits import RepeatLimiter

STARTING = "starting"


class WebhookReadiness:
    """Used in the event loop, about once a second."""

    def __init__(self, publisher: CallbackPublisher, health: Health) -> None:
        self._publisher, self._health = publisher, health
        self._repeats, self._waiting_for = RepeatLimiter(), ""
        self._log = logs.get("door")

    def look(self) -> None:
        """A producer that ended lets the health server's time run out."""
        if self._publisher.is_alive:
            self._health.beat()
        trouble = self._publisher.trouble
        self._health.ready(trouble is None, trouble or self._publisher.degraded)
        if trouble is None:
            if self._waiting_for:
                self._log.info("ready again", code=self._waiting_for)
            self._waiting_for = ""
            return
        code, _, cause = trouble.partition(": ")
        suppressed = None if code == STARTING else self._repeats.due(code)
        if suppressed is not None:
            self._log.warning("retrying after error", code=code, error=cause, suppressed=suppressed)
            self._waiting_for = code

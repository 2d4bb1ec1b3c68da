"""Reports whether callbacks can be published: at the health server, and in the log once a minute
per cause.
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
        self._repeats, self._problem_code = RepeatLimiter(), ""
        self._log = logs.get("webhooks")

    def check(self) -> None:
        """Update the health server. Once the producer has ended, no heartbeat reaches it and /livez
        fails.
        """
        if self._publisher.is_alive:
            self._health.beat()
        problem = self._publisher.problem
        self._health.ready(problem is None, problem or self._publisher.degraded)
        if problem is None:
            if self._problem_code:
                self._log.info("ready again", code=self._problem_code)
            self._problem_code = ""
            return
        code, _, cause = problem.partition(": ")
        suppressed = None if code == STARTING else self._repeats.due(code)
        if suppressed is not None:
            self._log.warning("waiting", code=code, error=cause, suppressed=suppressed)
            self._problem_code = code

"""The metrics of ingest."""

from __future__ import annotations

from services.runtime.observability.metrics import Counter, Gauge, Histogram, declare

OBSERVATIONS = declare(
    Counter(
        "stubline_ingest_observations_total",
        (
            "Orders with news: events said. Flat while new callbacks come means that ingest stands "
            "still."
        ),
    )
)
CONTENT_CONFLICTS = declare(
    Counter(
        "stubline_ingest_incidents_total",
        "Callbacks whose key had come with another meaning. They block nothing.",
    )
)
DRIFT_NOTICES = declare(
    Counter(
        "stubline_ingest_notices_total",
        (
            "Words of sources that this release does not know, in callbacks that were taken all "
            "the "
            "same."
        ),
    )
)
PAYMENTS_WAITING = declare(
    Counter(
        "stubline_ingest_payments_waiting_total",
        (
            "Payments that a gateway told of before any order named them. They wait for it, "
            "however "
            "long."
        ),
    )
)
CALLBACK_WAIT = declare(
    Histogram(
        "stubline_ingest_wait_seconds",
        (
            "From the door's taking a callback to the transaction that works it: of the oldest of "
            "each batch."
        ),
    )
)
WEBHOOK_CALLBACKS = declare(
    Counter(
        "stubline_ingest_webhook_callbacks_total",
        "What the door answered, by source and HTTP status.",
        ("source", "status"),
    )
)
WEBHOOK_IN_FLIGHT = declare(
    Gauge(
        "stubline_ingest_webhook_in_flight_callbacks",
        "Callbacks that are read or wait for Kafka's acknowledgement.",
    )
)
WEBHOOK_ACKNOWLEDGEMENT = declare(
    Histogram(
        "stubline_ingest_webhook_acknowledgement_seconds",
        (
            "From produce to Kafka's acknowledgement, of the oldest record of each batch of "
            "acknowledgements."
        ),
    )
)
WEBHOOK_CLOCK_SKEW = declare(
    Gauge(
        "stubline_ingest_webhook_clock_skew_seconds",
        "How far the clock of the webhook endpoint is ahead of Kafka's (behind: negative), at "
        "least: what the way of a record "
        "explains is not counted.",
    )
)
WEBHOOK_CONNECTIONS = declare(
    Gauge("stubline_ingest_webhook_connections", "Connections that are open at the door.")
)
WEBHOOK_CONNECTIONS_CLOSED = declare(
    Counter(
        "stubline_ingest_webhook_connections_closed_total",
        "Connections that the door closed: slow (no headers in time), unread (its answers were "
        "not read in time), room (it asked "
        "nothing, did not read, or did not come to an end, when there were too many), full (no "
        "other could go), large (headers, or all of a request), nonsense (no HTTP).",
        ("outcome",),
    )
)
WEBHOOK_SOURCES = declare(
    Gauge(
        "stubline_ingest_webhook_sources",
        "Sources of the file that are served, or refused for want of a secret.",
        ("state",),
    )
)
POLL_REQUESTS = declare(
    Counter(
        "stubline_ingest_poll_answers_total",
        "What polls were answered, by source: answered, away (no answer, or an error of theirs), "
        "slowed (429), denied (the "
        "credentials), missing, nonsense.",
        ("source", "outcome"),
    )
)
POLL_FOUND = declare(
    Counter(
        "stubline_ingest_poll_found_total",
        (
            "Orders and events that polls found. While webhooks come they are duplicates, and add "
            "nothing."
        ),
        ("source",),
    )
)
POLL_WARNINGS = declare(
    Gauge(
        "stubline_ingest_poll_warnings",
        (
            "Polls of a source whose last answer warned of something: a disabled webhook, for "
            "example. The log says of what."
        ),
        ("source",),
    )
)
POLLS_SUSPENDED = declare(
    Gauge(
        "stubline_ingest_polls_resting",
        (
            "Polls of a source that rest: its credentials are refused or missing, or it failed too "
            "often in a row."
        ),
        ("source",),
    )
)
POLL_AGE = declare(
    Gauge(
        "stubline_ingest_poll_age_seconds",
        (
            "Since the poll of a source that was not answered for longest last was. Far above its "
            "interval: it finds nothing."
        ),
        ("source",),
    )
)
READS_WAITING = declare(
    Gauge(
        "stubline_ingest_reads_waiting",
        (
            "Orders that wait to be read at their source, which spoke of them without proof. It "
            "needs "
            "credentials."
        ),
        ("source",),
    )
)

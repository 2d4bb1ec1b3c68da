"""The metrics of ingest."""

from __future__ import annotations

from services.runtime.observability.metrics import Counter, Gauge, Histogram, declare

OBSERVATIONS = declare(
    Counter(
        "stubline_ingest_observations_total",
        (
            "Orders that changed: events published. Flat while new callbacks come means that "
            "ingest is stuck."
        ),
    )
)
CONTENT_CONFLICTS = declare(
    Counter(
        "stubline_ingest_content_conflicts_total",
        "Callbacks whose key had come with other content. They block nothing.",
    )
)
DRIFT_NOTICES = declare(
    Counter(
        "stubline_ingest_drift_notices_total",
        (
            "Drift: words of sources that this release does not know, in callbacks that were "
            "accepted nevertheless."
        ),
    )
)
UNMATCHED_PAYMENTS = declare(
    Counter(
        "stubline_ingest_unmatched_payments_total",
        (
            "Payments that a gateway reported before any order named them. They wait for it, "
            "however long."
        ),
    )
)
CALLBACK_WAIT = declare(
    Histogram(
        "stubline_ingest_wait_seconds",
        (
            "From the reception of a callback by the webhook endpoint to the transaction that "
            "processes it, of the oldest one of each batch."
        ),
    )
)
WEBHOOK_CALLBACKS = declare(
    Counter(
        "stubline_ingest_webhook_callbacks_total",
        "Responses of the webhook endpoint, by source and HTTP status.",
        ("source", "status"),
    )
)
WEBHOOK_IN_FLIGHT = declare(
    Gauge(
        "stubline_ingest_webhook_in_flight_callbacks",
        "Callbacks that are being read or wait for Kafka's acknowledgement.",
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
        "How far the clock of the webhook endpoint is ahead of Kafka's (behind: negative), at"
        " least: the time that a record was under way is not counted.",
    )
)
WEBHOOK_CONNECTIONS = declare(
    Gauge("stubline_ingest_webhook_connections", "Open connections of the webhook endpoint.")
)
WEBHOOK_CONNECTIONS_CLOSED = declare(
    Counter(
        "stubline_ingest_webhook_connections_closed_total",
        "Connections that the webhook endpoint closed: slow (no headers in time), unread (its"
        " responses were not read in time), room (idle, unread or unfinished, when there were"
        " too many), full (no other could be closed), large (headers, or a whole request), "
        "malformed (not HTTP).",
        ("outcome",),
    )
)
WEBHOOK_SOURCES = declare(
    Gauge(
        "stubline_ingest_webhook_sources",
        "Sources of the file that are served, or refused because a secret is missing.",
        ("state",),
    )
)
POLL_REQUESTS = declare(
    Counter(
        "stubline_ingest_poll_requests_total",
        "Poll requests of a source by outcome: ok, unavailable (no response, or an error "
        "of the server), rate_limited (429), denied (the credentials), missing, malformed.",
        ("source", "outcome"),
    )
)
POLL_FOUND = declare(
    Counter(
        "stubline_ingest_poll_found_total",
        (
            "Orders and events that polls found. While webhooks arrive they are duplicates, and "
            "add nothing."
        ),
        ("source",),
    )
)
POLL_WARNINGS = declare(
    Gauge(
        "stubline_ingest_poll_warnings",
        (
            "Polls of a source whose last response had a warning: a disabled webhook, for "
            "example. The log has its text."
        ),
        ("source",),
    )
)
POLLS_SUSPENDED = declare(
    Gauge(
        "stubline_ingest_polls_suspended",
        (
            "Polls of a source that are suspended: its credentials are refused or missing, or its"
            " circuit breaker is open."
        ),
        ("source",),
    )
)
POLL_AGE = declare(
    Gauge(
        "stubline_ingest_poll_age_seconds",
        (
            "Seconds since the last successful response, of the poll of a source that has gone "
            "longest without one. Far above its interval: the poll fails."
        ),
        ("source",),
    )
)
ORDER_FETCHES_WAITING = declare(
    Gauge(
        "stubline_ingest_order_fetches_waiting",
        (
            "Orders that wait to be fetched from their source, which named them without "
            "proof. It needs credentials."
        ),
        ("source",),
    )
)

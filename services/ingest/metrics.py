"""What ingest counts."""

from __future__ import annotations

from services.runtime.metrics import Counter, Gauge, Histogram, declare

OBSERVATIONS = declare(
    Counter(
        "stubline_ingest_observations_total",
        "Orders with news: events said. Flat while new callbacks come means that ingest stands still.",
    )
)
INCIDENTS = declare(
    Counter("stubline_ingest_incidents_total", "Callbacks whose key had come with another meaning. They block nothing.")
)
NOTICES = declare(
    Counter(
        "stubline_ingest_notices_total",
        "Words of sources that this release does not know, in callbacks that were taken all the same.",
    )
)
WAITING = declare(
    Counter(
        "stubline_ingest_payments_waiting_total",
        "Payments that a gateway told of before any order named them. They wait for it, however long.",
    )
)
DOOR_CALLBACKS = declare(
    Counter(
        "stubline_ingest_door_callbacks_total",
        "What the door answered, by source and HTTP status.",
        ("source", "status"),
    )
)
DOOR_IN_FLIGHT = declare(
    Gauge("stubline_ingest_door_in_flight_callbacks", "Callbacks that are read or wait for Kafka's acknowledgement.")
)
DOOR_ACKNOWLEDGEMENT = declare(
    Histogram(
        "stubline_ingest_door_acknowledgement_seconds",
        "From produce to Kafka's acknowledgement, of the oldest record of each batch of acknowledgements.",
    )
)
DOOR_SOURCES = declare(
    Gauge(
        "stubline_ingest_door_sources",
        "Sources of the file that are served, or refused for want of a secret.",
        ("state",),
    )
)

"""A dead letter names the order that it is about, in every service and also when its record could
not be read, so that a person's data is found.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from schemas.envelope import Output
from schemas.orders import order_of
from services.approval.settings import ApprovalSettings, policies
from services.approval.worker import service as approval
from services.delivery.settings import DeliverySettings
from services.delivery.worker import service as delivery
from services.ingest.worker import SERVICE as INGEST
from services.issuer.worker import service as issuer
from services.runtime.loop.context import WorkerContext
from services.runtime.loop.worker import Worker
from services.runtime.observability.telemetry import Telemetry
from services.runtime.service import Service
from services.runtime.settings import LaneSettings
from services.runtime.testing import (
    FakeBroker,
    FakeBrokerClient,
    FakeClock,
    FakeDatabase,
    FakeLaneStore,
    classify_fake_error,
)

NAMES = [
    (b"shop:727", "shop:727"),
    ("shop:straße-1".encode(), "shop:straße-1"),
    (b"shop:?", None),
    (b"shop:a b", None),
]
SERVICES = [
    INGEST,
    approval(policies(ApprovalSettings())),
    issuer(10),
    delivery(DeliverySettings()),
]


def subjects_of(service: Service[Any, Any], key: bytes | None) -> list[str | None]:
    """Return the subjects of the dead letters of unreadable records with this key, one on each of
    the service's topics.
    """
    clock = FakeClock()
    broker, database = FakeBroker(clock), FakeDatabase()
    for topic in (*service.input_topics, service.dead_topic):
        broker.create_topic(topic, 1)
    for topic in service.topics:
        broker.append(Output(topic, key, b"\xff", []))
    context = WorkerContext(
        service,
        FakeBrokerClient(broker, service.group),
        FakeLaneStore(database, service.group),
        LaneSettings(),
        Telemetry(),
        classify_fake_error,
        clock,
        clock,
        random.random,
    )
    worker = Worker(context)
    for _ in range(20):
        worker.step()
    return [row.dead_letter.subject_key for row in database.dead_letters.values()]


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.group)
@pytest.mark.parametrize(
    ("key", "subject"),
    [(b"shop:727", "shop:727"), (b"shop:?", None), (b"\xff\x00", None), (None, None)],
)
def test_a_dead_letter_of_an_unreadable_record_names_its_order(
    service: Service[Any, Any], key: bytes | None, subject: str | None
) -> None:
    without_tables = replace(service, tick=None, backlog=None)
    assert subjects_of(without_tables, key) == [subject] * len(service.topics)


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b":",
        b"shop:",
        b"shop:7 2",
        b"shop:7\n",
        b"Shop:7",
        b"s" * 33 + b":7",
        b"shop:" + b"7" * 201,
    ],
)
def test_a_key_that_is_no_order_names_none(key: bytes) -> None:
    assert order_of(key) is None


@pytest.mark.parametrize(("key", "order"), NAMES)
def test_an_order_is_known_by_any_id_that_can_be_printed(key: bytes, order: str | None) -> None:
    assert order_of(key) == order

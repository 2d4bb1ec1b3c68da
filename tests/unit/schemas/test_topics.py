"""Laws of the topics: what a group reads exists, names are legal, and retention is finite."""

from __future__ import annotations

import re

from msgspec.structs import fields

from schemas.envelope import Snapshot
from schemas.topics import DAY_MS, GROUPS, MIB, TOPICS, all_topics
from services.approval import settings as approval_settings
from services.approval import worker as approval
from services.delivery import worker as delivery
from services.delivery.settings import DeliverySettings
from services.ingest import worker as ingest
from services.issuer import worker as issuer


def test_every_topic_that_a_group_reads_is_created() -> None:
    names = {topic.name for topic in TOPICS}
    assert {name for group in GROUPS for name in group.topics} <= names


def test_a_service_reads_the_topics_of_its_group_and_no_others() -> None:
    policies = approval_settings.policies(approval_settings.ApprovalSettings())
    read = {
        service.group: service.topics
        for service in (
            ingest.SERVICE,
            approval.service(policies),
            issuer.service(orders_max=1),
            delivery.service(DeliverySettings()),
        )
    }
    assert read == {group.name: group.topics for group in GROUPS}


def test_a_group_may_write_every_snapshot_that_its_service_publishes() -> None:
    kinds = [kind for kind in Snapshot.__subclasses__() if kind.__module__.startswith("schemas.")]
    assert len(kinds) > 4
    outputs = {group.service: group.outputs for group in GROUPS}
    for kind in kinds:
        [make_writer] = [field.default_factory for field in fields(kind) if field.name == "writer"]
        writer = make_writer()
        assert kind.topic in outputs[writer.partition(".")[0]]


def test_every_group_has_its_dead_letters_and_its_replays() -> None:
    names = {topic.name for topic in all_topics()}
    assert {f"{group.name}.{kind}.v1" for group in GROUPS for kind in ("dead", "replay")} <= names


def test_names_are_unique_versioned_and_legal() -> None:
    names = [topic.name for topic in all_topics()]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z0-9.]{1,200}\.v\d+", name) for name in names)


def test_no_topic_keeps_personal_data_beyond_its_days() -> None:
    assert all(
        0 < topic.retention_ms <= 7 * DAY_MS and topic.cleanup == "delete" for topic in all_topics()
    )


def test_what_comes_from_outside_is_smaller_than_what_it_may_become() -> None:
    outside = {"callbacks.received.v1", "orders.commands.v1"}
    assert {topic.max_message_bytes for topic in all_topics() if topic.name in outside} == {MIB}
    assert {topic.max_message_bytes for topic in all_topics() if topic.name not in outside} == {
        8 * MIB
    }

"""The envelope of events: CloudEvents 1.0 on Kafka in binary mode. Structured mode is parsed too,
because storefronts may send it.

What a service publishes is a `Snapshot`: all that its writer knows of a key, with its position in
the writer's history of that key. What comes from outside, callbacks and commands, is an `Input`,
identified by its own id. The trace context of the hop is in the header `traceparent`, beside the
event and not in it.
"""

import base64
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from typing import Annotated, ClassVar, NamedTuple, Self
from uuid import UUID

from msgspec import Meta

from schemas import structs
from schemas.structs import NO_NEWLINE, OutOfContract, SnapshotPart, UnknownEnumValue
from schemas.uuids import uuid5_text

Headers = Sequence[tuple[str, bytes | None]]  # Kafka allows a header without a value
ReadHeaders = Collection[tuple[str, bytes | None]]

# The namespace of every snapshot's id; it never changes.
EVENT_IDS = UUID("6f0f2a52-6f0b-5d3c-9b43-6b7a2f3a9f10")
INT8_MAX = 2**63 - 1  # the greatest bigint of PostgreSQL
CONTENT_TYPE = "application/json"
STRUCTURED = "application/cloudevents"
REQUIRED = ("specversion", "id", "source", "type")
# The character NUL, escaped in JSON by a backslash that is not itself escaped.
NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

Slug = Annotated[
    str, Meta(min_length=1, max_length=64, pattern="^[a-z0-9][a-z0-9.-]*$" + NO_NEWLINE)
]


class Output(NamedTuple):
    """A record to be produced. It is complete: produced again, it has the same bytes."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


class Position(NamedTuple):
    """A snapshot's place in its writer's history of a key. Greater is newer; the positions of
    different writers cannot be compared.
    """

    generation: int
    sequence: int


class NotAnEvent(ValueError):
    """The bytes are not an event of their topic. They can never be parsed, so the record becomes a
    dead letter.
    """


class Snapshot(SnapshotPart, frozen=True, kw_only=True):
    """All that a writer knows of a key. The last snapshot contains everything, so duplicates and
    late ones do no harm.

    A writer's name identifies one history: a service that publishes two kinds of snapshots of one
    key has two writers' names.
    """

    topic: ClassVar[str]
    event_type: ClassVar[str]

    # The head of each snapshot, in this order; its content follows (SerializedSnapshot).
    writer: Slug
    key: Annotated[str, Meta(min_length=1, max_length=512)]
    generation: Annotated[
        int,
        Meta(
            ge=0, le=INT8_MAX, description="Count of restores from a backup; outranks the sequence."
        ),
    ]
    sequence: Annotated[
        int,
        Meta(
            ge=1,
            le=INT8_MAX,
            description="Place in the writer's history of the key, from 1, without a repeat.",
        ),
    ]

    @property
    def position(self) -> Position:
        return Position(self.generation, self.sequence)

    @property
    def event_id(self) -> str:
        """Return an id that every copy shares, whichever process made it: a UUIDv5."""
        return uuid5_text(
            EVENT_IDS.bytes, f"{self.writer}/{self.generation}/{self.sequence}/{self.key}"
        )

    def digest(self) -> bytes:
        """Return SHA-256 of the content without its position: see `SerializedSnapshot.digest`."""
        return SerializedSnapshot(self).digest

    def encode(self, *, time: str, traceparent: str | None = None) -> Output:
        """Return the record. `time` is RFC 3339 in UTC."""
        return self.record_of(structs.encode(self), time=time, traceparent=traceparent)

    def record_of(self, value: bytes, *, time: str, traceparent: str | None = None) -> Output:
        """Return the record with this snapshot's JSON, `value`.

        The value alone is the full snapshot; the headers repeat what a router needs.
        """
        key = self.key.encode()
        headers: list[tuple[str, bytes | None]] = [
            *_fixed_headers(self.event_type, self.writer),
            ("ce_id", self.event_id.encode()),
            ("ce_time", time.encode()),
            ("ce_subject", key),
            # Sorts as text, as the extension requires.
            ("ce_sequence", b"%019d.%019d" % (self.generation, self.sequence)),
        ]
        if traceparent is not None:
            headers.append(("traceparent", traceparent.encode()))
        return Output(self.topic, key, value, headers)

    @classmethod
    def read(cls, headers: ReadHeaders, value: bytes | None) -> Self:
        """Return the snapshot of a record. Raises NotAnEvent if no release can parse it, and
        UnknownEnumValue if only a newer release can.
        """
        return cls.read_with_document(headers, value)[0]

    @classmethod
    def read_with_document(cls, headers: ReadHeaders, value: bytes | None) -> tuple[Self, bytes]:
        """Return the snapshot as `read` does, and its JSON as it was received."""
        data = (
            value
            if _is_binary_mode(cls.event_type, headers)
            else _data_of(cls, read_event(headers, value))
        ) or b""
        if b"\\u0000" in data and NUL.search(data):
            raise NotAnEvent("a text holds the character NUL, which no table takes")
        try:
            return structs.decode(cls, data), data
        except UnknownEnumValue:
            raise
        except OutOfContract as error:
            raise NotAnEvent(str(error)) from None


class SerializedSnapshot:
    """A snapshot that is written once: its digest and its record are made of the same bytes."""

    __slots__ = ("_content_at", "event", "value")

    def __init__(self, event: Snapshot) -> None:
        self.event = event
        self.value = structs.encode(event)
        # No text can hold this mark: in JSON the quotes of a text are escaped.
        after_head = self.value.index(b',"sequence":') + len(b',"sequence":')
        self._content_at = self.value.find(b",", after_head) + 1 or len(self.value) - 1

    @property
    def content(self) -> bytes:
        """A JSON object with all fields but writer, key, generation and sequence."""
        return b"{" + self.value[self._content_at :]

    @property
    def digest(self) -> bytes:
        """SHA-256 of the content. A writer publishes if it differs from that of its last snapshot
        of the key.
        """
        return sha256(self.content).digest()

    def encode(self, *, time: str, traceparent: str | None = None) -> Output:
        """Return what `Snapshot.encode` returns, from the bytes that exist already."""
        return self.event.record_of(self.value, time=time, traceparent=traceparent)


def _is_binary_mode(event_type: str, headers: ReadHeaders) -> bool:
    """Return whether the record is an event of that type in binary mode, as our services write it.

    It agrees with `read_event`, except that headers that nothing reads are not decoded, so they
    need not be UTF-8.
    """
    known = dict(headers)
    return (
        known.get("ce_type") == event_type.encode()
        and known.get("content-type") == CONTENT_TYPE.encode()
        and known.get("ce_specversion") == b"1.0"
        and bool(known.get("ce_id") and known.get("ce_source"))
    )


def _data_of(kind: type[Snapshot], event: "CloudEvent") -> bytes | None:
    if event.type != kind.event_type:
        raise NotAnEvent(f"ce_type is {event.type!r}, and {kind.topic} carries {kind.event_type!r}")
    return event.data


@cache  # a handful of writers and types in a process
def _fixed_headers(event_type: str, writer: str) -> tuple[tuple[str, bytes], ...]:
    return (
        ("ce_specversion", b"1.0"),
        ("ce_type", event_type.encode()),
        ("ce_source", source_of(writer).encode()),
        ("content-type", CONTENT_TYPE.encode()),
    )


def source_of(writer: str) -> str:
    """Return the CloudEvents source of a writer: a relative reference, the same in every
    installation.
    """
    return f"/stubline/{writer}"


@dataclass(frozen=True, slots=True)
class Input:
    """An event from outside. Source and id together identify it for ever."""

    topic: str
    key: str
    type: str
    source: str
    id: str
    data: bytes | None
    content_type: str = CONTENT_TYPE
    extensions: Mapping[str, str] = field(default_factory=dict)

    def encode(self, *, time: str, traceparent: str | None = None) -> Output:
        """Return the record, its data unchanged. `time` of receipt is RFC 3339 in UTC."""
        attributes = {
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "time": time,
            "subject": self.key,
            **self.extensions,
        }
        headers: list[tuple[str, bytes | None]] = [
            (f"ce_{name}", text.encode()) for name, text in attributes.items()
        ]
        headers.append(("content-type", self.content_type.encode()))
        if traceparent is not None:
            headers.append(("traceparent", traceparent.encode()))
        return Output(self.topic, self.key.encode(), self.data, headers)


class CloudEvent(NamedTuple):
    """An event as it was received, in either mode. Attributes are text, without their prefix
    `ce_`.
    """

    attributes: Mapping[str, str]
    data: bytes | None

    @property
    def id(self) -> str:
        return self.attributes["id"]

    @property
    def source(self) -> str:
        return self.attributes["source"]

    @property
    def type(self) -> str:
        return self.attributes["type"]


def read_event(headers: ReadHeaders, value: bytes | None) -> CloudEvent:
    """Return the event of a record. Raises NotAnEvent.

    If a header is repeated, the last value wins, as in Kafka's own clients.
    """
    try:
        attributes: dict[str, str] = {}
        content_type = b""
        for name, text in headers:
            if text is None:
                continue
            if name[:3] == "ce_":
                attributes[name[3:]] = text.decode()
            elif name == "content-type":
                content_type = text
        if content_type:
            attributes["datacontenttype"] = content_type.decode()
        is_structured = content_type.lower().startswith(STRUCTURED.encode())
        event = _structured(value) if is_structured else CloudEvent(attributes, value)
    except (ValueError, RecursionError) as error:  # of json (also by depth), base64 and UTF-8
        raise NotAnEvent(str(error)) from None
    if missing := [name for name in REQUIRED if not event.attributes.get(name)]:
        raise NotAnEvent(f"not a CloudEvent: {', '.join(missing)} missing")
    if event.attributes["specversion"] != "1.0":
        raise NotAnEvent(
            f"specversion is {event.attributes['specversion']!r}, and this release reads 1.0"
        )
    return event


def _structured(value: bytes | None) -> CloudEvent:
    document = json.loads(value or b"")
    if not isinstance(document, dict):
        raise NotAnEvent("a structured CloudEvent is a JSON object")
    data = document.pop("data", None)
    encoded = document.pop("data_base64", None)
    attributes = {name: _text(content) for name, content in document.items() if content is not None}
    if encoded is not None:
        return CloudEvent(attributes, base64.b64decode(encoded, validate=True))
    if data is None:
        return CloudEvent(attributes, None)
    is_text = isinstance(data, str) and "json" not in attributes.get(
        "datacontenttype", CONTENT_TYPE
    )
    return CloudEvent(
        attributes, (data if is_text else json.dumps(data, ensure_ascii=False)).encode()
    )


def _text(content: object) -> str:
    if isinstance(content, bool):
        return "true" if content else "false"
    if isinstance(content, str | int):
        return str(content)
    raise NotAnEvent("a CloudEvents attribute is a text, a number or a boolean")


def header(headers: ReadHeaders, name: str) -> str | None:
    """Return the last header of that name, or None if it is missing or not UTF-8."""
    last = None
    for candidate, content in headers:
        if candidate == name and content is not None:
            last = content
    try:
        return None if last is None else last.decode()
    except UnicodeDecodeError:
        return None

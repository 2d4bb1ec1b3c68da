"""How an event travels: CloudEvents 1.0 on Kafka, binary mode; structured mode is read too, for
storefronts may send it.

What a service says is a `Snapshot`: all that its writer knows of a key, with its place in the
writer's history of that key. What comes from outside, callbacks and commands, is an `Input`, known
by its own id. The trace context of the hop travels in the header `traceparent`, beside the event
and not in it.
"""

import base64
import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, ClassVar, NamedTuple, Self
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Headers = Sequence[tuple[str, bytes | None]]  # Kafka allows a header without a value
ReadHeaders = Collection[tuple[str, bytes | None]]

EVENT_IDS = UUID(
    "6f0f2a52-6f0b-5d3c-9b43-6b7a2f3a9f10"
)  # the namespace of every snapshot's id; never changes
CONTENT_TYPE = "application/json"
STRUCTURED = "application/cloudevents"
REQUIRED = ("specversion", "id", "source", "type")
NEWER_RELEASE = frozenset(
    {"enum", "literal_error", "union_tag_invalid"}
)  # pydantic's names for a word it does not know

NUL = re.compile(
    rb"(?<!\\)(?:\\\\)*\\u0000"
)  # escaped in JSON: a backslash that is not itself escaped

Slug = Annotated[
    str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9.-]*$")
]  # pydantic's `$` ends the text, not the line


class Output(NamedTuple):
    """A record to be: complete, so that whoever produces it again produces the same bytes."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


class Position(NamedTuple):
    """A snapshot's place in its writer's history of a key. Greater is newer; the positions of two
    writers say nothing.
    """

    generation: int
    sequence: int


class NotAnEvent(ValueError):
    """The bytes are not the event that stands in their topic. It can never be read: a dead
    letter.
    """


class NewerVocabulary(ValueError):
    """Well formed, but it uses a word that this release does not know. Stop and deploy: it must not
    be dead-lettered.
    """


class Snapshot(BaseModel):
    """All that a writer knows of a key. Whoever reads the last one knows everything; copies and
    late ones do no harm.

    A writer's name stands for one history: a service that tells two kinds of things of one key has
    two writers' names.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    topic: ClassVar[str]
    event_type: ClassVar[str]

    writer: Slug
    key: str = Field(min_length=1, max_length=512)
    generation: int = Field(
        ge=0, lt=2**63, description="Count of restores from a backup; outranks the sequence."
    )
    sequence: int = Field(
        ge=1,
        lt=2**63,
        description="Place in the writer's history of the key, from 1, without a repeat.",
    )

    @property
    def position(self) -> Position:
        return Position(self.generation, self.sequence)

    @property
    def event_id(self) -> UUID:
        """The same for every copy, from whichever process: a repeat is recognisable anywhere."""
        return uuid5(EVENT_IDS, f"{self.writer}/{self.generation}/{self.sequence}/{self.key}")

    def digest(self) -> bytes:
        """What it says, without its place in history. A service speaks when this differs from the
        last it said.
        """
        said = self.model_dump_json(exclude={"generation", "sequence"})
        return hashlib.sha256(said.encode()).digest()

    def encode(self, *, time: str, traceparent: str | None = None) -> Output:
        """`time` is RFC 3339 in UTC. The value alone is the full snapshot; the headers repeat what
        a router needs.
        """
        key = self.key.encode()
        headers: list[tuple[str, bytes | None]] = [
            *_fixed_headers(self.event_type, self.writer),
            ("ce_id", str(self.event_id).encode()),
            ("ce_time", time.encode()),
            ("ce_subject", key),
            (
                "ce_sequence",
                b"%019d.%019d" % (self.generation, self.sequence),
            ),  # sorts as text, as the extension asks
        ]
        if traceparent is not None:
            headers.append(("traceparent", traceparent.encode()))
        return Output(self.topic, key, self.model_dump_json().encode(), headers)

    @classmethod
    def read(cls, headers: ReadHeaders, value: bytes | None) -> Self:
        """The snapshot of a record. NotAnEvent: can never be read. NewerVocabulary: not by this
        release.
        """
        return cls.read_whole(headers, value)[0]

    @classmethod
    def read_whole(cls, headers: ReadHeaders, value: bytes | None) -> tuple[Self, bytes]:
        """As `read`, and the snapshot's JSON as it came, for who keeps it."""
        data = (
            value
            if _is_binary_mode(cls.event_type, headers)
            else _data_of(cls, read_event(headers, value))
        ) or b""
        if b"\\u0000" in data and NUL.search(data):
            raise NotAnEvent("a text holds the character NUL, which no table takes")
        try:
            return cls.model_validate_json(data), data
        except ValidationError as error:
            raise _read_error(
                cls, error
            ) from None  # pydantic's own text would carry the input into logs and letters


def _is_binary_mode(event_type: str, headers: ReadHeaders) -> bool:
    """An event of that type in binary mode, as our own services write it. Headers that nobody reads
    are not decoded, so one of them may be no UTF-8; else `read_event` says the same.
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
    """The CloudEvents source of what a writer says: a relative reference, the same in every
    installation.
    """
    return f"/stubline/{writer}"


@dataclass(frozen=True, slots=True)
class Input:
    """An event from outside, known by its own id: source and id together name it for ever."""

    topic: str
    key: str
    type: str
    source: str
    id: str
    data: bytes | None
    content_type: str = CONTENT_TYPE
    extensions: Mapping[str, str] = field(default_factory=dict)

    def encode(self, *, time: str, traceparent: str | None = None) -> Output:
        """`time` is RFC 3339 in UTC: when it was received. The data goes through byte for byte."""
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
    """An event as it was read, in whichever mode it came. Attributes are text, without their
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
    """The event of a record, or NotAnEvent. Of two headers of one name the last counts, as for
    Kafka's own clients.
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
    except (
        ValueError,
        RecursionError,
    ) as error:  # json's (deep ones too), base64's and the decoder's
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
    as_is = isinstance(data, str) and "json" not in attributes.get("datacontenttype", CONTENT_TYPE)
    return CloudEvent(
        attributes, (data if as_is else json.dumps(data, ensure_ascii=False)).encode()
    )


def _text(content: object) -> str:
    if isinstance(content, bool):
        return "true" if content else "false"
    if isinstance(content, str | int):
        return str(content)
    raise NotAnEvent("a CloudEvents attribute is a text, a number or a boolean")


def header(headers: ReadHeaders, name: str) -> str | None:
    """The last header of that name, or nothing when it is missing or is no text."""
    found = None
    for candidate, content in headers:
        if candidate == name and content is not None:
            found = content
    try:
        return None if found is None else found.decode()
    except UnicodeDecodeError:
        return None


def _read_error(cls: type[Snapshot], error: ValidationError) -> ValueError:
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    text = f"{cls.__name__}: " + "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or '.'}: {fault['msg']}" for fault in faults
    )
    return (
        NewerVocabulary(text)
        if {fault["type"] for fault in faults} <= NEWER_RELEASE
        else NotAnEvent(text)
    )

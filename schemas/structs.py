"""How events are defined, written and read: each is one `msgspec.Struct`, which its writers build,
its readers get, and the JSON Schemas in `schemas/json` are made from.

Building a struct checks nothing and costs as much as a dict; reading one checks every bound. A
writer whose values come from outside therefore uses `encode_checked`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import cache
from types import GenericAlias, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec
from msgspec import Meta, Struct

T = TypeVar("T")
S = TypeVar("S", bound=Struct)
# Follows a pattern's `$`, which also matches before a newline at the end of a text.
NO_NEWLINE = r"(?!\n)"
UNKNOWN_ENUM_VALUE = "Invalid enum value"


class SnapshotPart(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The base of what stands inside a snapshot. A field that has its default is left out, so what
    few orders need costs the others nothing. Unknown fields are ignored: their writer is newer.
    """


class OutOfContract(ValueError):
    """A value is outside the bounds of its field. The text names the field, and never the value."""


class UnknownEnumValue(OutOfContract):
    """The only fault is a value of an enumeration that this release does not know: a newer release
    wrote it.
    """


def always_written(default: str) -> Any:
    """Return a field with a default that is written all the same: readers outside need it."""
    return msgspec.field(default_factory=lambda: default)


def raw(_kind: type[T], content: bytes) -> T:
    """Return JSON that exists already, to stand where a value of that type is written.

    It can only be written: it has none of the type's attributes.
    """
    return cast("T", msgspec.Raw(content))


encode: Callable[[Struct], bytes] = msgspec.json.Encoder().encode


def encode_checked(value: Struct) -> bytes:
    """Return the value as JSON. Raises OutOfContract if a reader would refuse it."""
    content = encode(value)
    decode(type(value), content)
    return content


def decode(kind: type[S], content: bytes | str) -> S:
    """Return the value. Raises UnknownEnumValue or OutOfContract; neither shows the content."""
    try:
        value: S = _decoder(kind).decode(content)
    except msgspec.ValidationError as error:
        problem = str(error)
        if problem.startswith(UNKNOWN_ENUM_VALUE):
            _refuse_other_faults(kind, content)
            raise UnknownEnumValue(f"{kind.__name__}: unknown value{_place(problem)}") from None
        raise OutOfContract(f"{kind.__name__}: {problem}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise OutOfContract(f"{kind.__name__}: {text}") from None
    return value


def convert(kind: type[S], value: object) -> S:
    """Return what a database returned as dicts and lists. Raises OutOfContract."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        problem = str(error)
        if problem.startswith(UNKNOWN_ENUM_VALUE):  # which quotes the value
            problem = f"unknown value{_place(problem)}"
        raise OutOfContract(f"{kind.__name__}: {problem}") from None


@cache
def _decoder(kind: type[Struct]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def _refuse_other_faults(kind: type[Struct], content: bytes | str) -> None:
    """Raise OutOfContract unless unknown values are the only fault. msgspec stops at the first."""
    try:
        msgspec.json.decode(content, type=with_any_word(kind))
    except msgspec.ValidationError as error:
        raise OutOfContract(f"{kind.__name__}: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OutOfContract(f"{kind.__name__}: {type(error).__name__}") from None


def _place(problem: str) -> str:
    """Return where msgspec found the problem, without the value that it quotes before."""
    _, mark, path = problem.rpartition(" - at ")
    return mark + path if mark else ""


@cache
def with_any_word(kind: type[Struct]) -> type[Struct]:
    """Return the same struct with every enumeration widened to any text."""
    hints = get_type_hints(kind, include_extras=True)
    fields: list[tuple[str, Any, Any]] = [
        (field.name, _widened(hints[field.name]), msgspec.NODEFAULT if field.required else None)
        for field in msgspec.structs.fields(kind)
    ]
    return msgspec.defstruct(kind.__name__, fields, kw_only=True)


def _widened(hint: Any) -> Any:
    """Return a type with its enumerations as texts, whatever of events it is made of."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal or (isinstance(hint, type) and issubclass(hint, Enum)):
        return str
    if origin is Annotated:
        metas = [item for item in hint.__metadata__ if isinstance(item, Meta)]
        return Annotated[(_widened(arguments[0]), *metas)]
    if origin in (Union, UnionType):
        return Union[tuple(_widened(argument) for argument in arguments)]  # noqa: UP007 - computed
    if isinstance(hint, GenericAlias):
        return GenericAlias(origin, tuple(_widened(argument) for argument in arguments))
    if isinstance(hint, type) and issubclass(hint, Struct):
        return with_any_word(hint)
    return hint

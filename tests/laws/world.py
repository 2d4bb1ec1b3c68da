"""A world to break: a broker, a database, and members of the toy's two groups. In memory, or real (KafkaWorld)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

from tests.laws.evidence import Evidence, Sent
from tests.toy.events import Input
from tests.toy.names import Names

Headers = Sequence[tuple[str, bytes | None]]


class NotAtRest(AssertionError):
    """The world did not come to rest in time; the text names what still moved."""


class Member(Protocol):
    """One process of a stage's group."""

    stage: str

    @property
    def is_alive(self) -> bool: ...
    def kill(self) -> None:
        """As the kernel kills: nothing is said to anybody."""
        ...

    def pause(self) -> None:
        """It rests, wherever it is."""
        ...

    def resume(self) -> None: ...
    def stop(self) -> int:
        """Asks it to end; the answer is its exit code."""
        ...


class World(Protocol):
    """What laws do to a world. Times are seconds of the world's own clock."""

    names: Names

    def start(self, stage: str, *, at: str = "", release: int = 1, healed: bool = False, **settings: object) -> Member:
        """`at` as in tests/toy/sabotage.py; `settings` are those of the runtime, by name."""
        ...

    def wait_dead(self, member: Member) -> None:
        """Until a sabotage has killed it."""
        ...

    def wait_paused(self, member: Member) -> None:
        """Until a sabotage has stopped it."""
        ...

    def wait_until_owns_all(self, *members: Member) -> None:
        """Until these hold all lanes of their stage."""
        ...

    def send(
        self, *inputs: Input, topic: str | None = None, partition: int | None = None, headers: Headers = ()
    ) -> None:
        """Acknowledged when it returns. Without a topic, an id decides which of the two it takes."""
        ...

    def send_bytes(self, topic: str, value: bytes | None, *, key: bytes | None = None, headers: Headers = ()) -> None:
        """What nobody can read."""
        ...

    def settle(self, seconds: float = 30.0) -> None:
        """Until every lane has lag 0, nothing may be unpublished, nothing is on its way."""
        ...

    def evidence(self) -> Evidence: ...

    def sent(self) -> Sequence[Sent]: ...


def story(seed: int, inputs: int, keys: int = 10, *, name: str = "s") -> list[Input]:
    """A lifelike mixture: the same for the same seed."""
    chance = random.Random(seed)
    told = []
    for number in range(inputs):
        key = f"{name}-key-{chance.randrange(keys)}"
        what = chance.choices(("release", "add", "drop", "cancel", "restore", "note"), (3, 5, 1, 1, 1, 1))[0]
        child = f"c{chance.randrange(6)}" if what in ("add", "drop") else ""
        told.append(Input(f"{name}-{seed}-{number}", key, what, child, amount=chance.randrange(5)))
    return told


def stormed(inputs: Sequence[Input], seed: int, copies: int = 3) -> list[Input]:
    """Each of them several times, shuffled."""
    many = [told for told in inputs for _ in range(copies)]
    random.Random(seed).shuffle(many)
    return many


def poisoned(inputs: Sequence[Input], seed: int, share: float = 0.1) -> list[Input]:
    """A share of them is poison, of every kind."""
    chance = random.Random(seed)
    kinds = ("parse", "handle", "check", "nul")
    return [poison(told, chance.choice(kinds)) if chance.random() < share else told for told in inputs]


def poison(told: Input, kind: str) -> Input:
    """`check` violates a constraint (SQLSTATE 23), `nul` cannot be stored (22), `parse` and `handle` raise there."""
    fields = {name: getattr(told, name) for name in Input.__slots__} | {"poison": kind}
    if kind == "check":
        fields["amount"] = -1
    if kind == "nul":
        fields["note"] = "before\0after"
    return Input(**fields)

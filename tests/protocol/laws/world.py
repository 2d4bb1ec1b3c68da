"""A world to break: a broker, a database, and members of the toy's two groups. In memory
(FakeWorld), or real (KafkaWorld).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol
from uuid import UUID

from services.runtime.records import LaneKey
from tests.protocol.laws.evidence import DeadLetterFacts, Evidence, LaneFacts
from tests.protocol.toy.events import Input
from tests.protocol.toy.names import Names
from tests.protocol.toy.service import Release

Headers = Sequence[tuple[str, bytes | None]]
RELEASE = Release()
SESSION_S = 6.0  # after so much silence the group gives a member's lanes away


class NotSettledError(AssertionError):
    """The world did not get there in time; the text names what was missing."""


class Member(Protocol):
    """One process of a stage's group."""

    stage: str

    @property
    def is_alive(self) -> bool: ...
    @property
    def name(self) -> str:
        """As the rows of its lanes call their owner."""
        ...

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
    """What laws do to a world. Seconds are those of the world's own clock."""

    names: Names

    def start(
        self, stage: str, *, at: str = "", release: Release = RELEASE, **settings: object
    ) -> Member:
        """`at` as in tests/protocol/toy/sabotage.py; `settings` are those of the runtime, by
        name.
        """
        ...

    def run(self, seconds: float) -> None:
        """Lets it go on."""
        ...

    def until(self, what: str, done: Callable[[], bool], seconds: float = 120.0) -> None:
        """Lets it go on until then."""
        ...

    def settle(self, seconds: float = 120.0) -> None:
        """Until every lane has lag 0, nothing may be unpublished and nothing is on its way. Stopped
        lanes may wait.
        """
        ...

    def evidence(self) -> Evidence: ...
    def lanes(self, stage: str) -> list[LaneFacts]: ...
    def dead_letters(self, stage: str = "first") -> list[DeadLetterFacts]: ...

    # What comes in.

    def send(
        self,
        *inputs: Input,
        topic: str | None = None,
        partition: int | None = None,
        headers: Headers = (),
    ) -> None:
        """Acknowledged when it returns. Without a topic, an id decides which of the two it
        takes.
        """
        ...

    def send_bytes(
        self, topic: str, value: bytes | None, *, key: bytes | None = None, headers: Headers = ()
    ) -> None:
        """What nobody can read."""
        ...

    # What the world does.

    def broker_unavailable(self) -> AbstractContextManager[None]: ...
    def database_unavailable(self) -> AbstractContextManager[None]: ...
    def recreate_topic(self, topic: str) -> None: ...
    def delete_records(self, lane: LaneKey, before: int) -> None:
        """Retention."""
        ...

    def add_partitions(self, total: int) -> None:
        """To all input topics and to what the stages say."""
        ...

    # What operators do.

    def rewind(self, stage: str, lane: LaneKey, to: int) -> None: ...
    def skip(self, stage: str, lane: LaneKey) -> None: ...
    def accept_topic(self, stage: str, topic: str) -> None: ...
    def control(self, stage: str, *, paused: bool, rate: float | None = None) -> None: ...
    def is_paused(self, stage: str) -> bool: ...
    def request_replays(self, dead_letters: Sequence[UUID]) -> None:
        """Replay."""
        ...

    def restored(self) -> None:
        """The generation rises."""
        ...


def lane(world: World, stage: str, topic: str, partition: int = 0) -> LaneFacts:
    return next(it for it in world.lanes(stage) if it.lane == (topic, partition))


def wait_until_owned(world: World, *members: Member, seconds: float = 120.0) -> None:
    """Until these, and nobody else, hold all lanes of their stage."""
    wanted = {member.name for member in members}

    def done() -> bool:
        owners = [it.owner for it in world.lanes(members[0].stage) if it.lane.topic != "@timer"]
        return len(owners) > 0 and set(owners) == wanted

    world.until(f"lanes of {members[0].stage} owned by {wanted}", done, seconds)


def feed_until_dead(world: World, victim: Member, *, seed: int = 0) -> None:
    """A stream of inputs, until a sabotage ends the process that works them."""
    for number in range(400):
        if not victim.is_alive:
            return
        world.send(*story(seed, 8, name=f"feed{number}"))
        world.run(0.05)
    raise NotSettledError(f"{victim.name} lives on")


def story(seed: int, count: int, keys: int = 10, *, name: str = "s") -> list[Input]:
    """A lifelike mixture: the same for the same seed."""
    rng = random.Random(seed)
    inputs = []
    for number in range(count):
        key = f"key-{rng.randrange(keys)}"
        what = rng.choices(
            ("release", "add", "drop", "cancel", "restore", "note"), (3, 5, 1, 1, 1, 1)
        )[0]
        child = f"c{rng.randrange(6)}" if what in {"add", "drop"} else ""
        inputs.append(Input(f"{name}-{seed}-{number}", key, what, child, amount=rng.randrange(5)))
    return inputs


def stormed(inputs: Sequence[Input], seed: int, copies: int = 3) -> list[Input]:
    """Each of them several times, shuffled."""
    many = [each for each in inputs for _ in range(copies)]
    random.Random(seed).shuffle(many)
    return many


def poisoned(inputs: Sequence[Input], seed: int, share: float = 0.1) -> list[Input]:
    """A share of them is poison, of every kind."""
    rng = random.Random(seed)
    kinds = ("parse", "handle", "check", "nul")
    return [poison(each, rng.choice(kinds)) if rng.random() < share else each for each in inputs]


def poison(sound: Input, kind: str) -> Input:
    """`check` violates a constraint (SQLSTATE 23), `nul` cannot be stored (22), `parse` and
    `handle` raise there.
    """
    fields = {name: getattr(sound, name) for name in Input.__slots__} | {"poison": kind}
    if kind == "check":
        fields["amount"] = -1
    if kind == "nul":
        fields["note"] = "before\0after"
    return Input(**fields)

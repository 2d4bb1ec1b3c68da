"""The system under test: a broker, a database, and members of the toy's two groups.

FakeSystem has all of it in memory, KafkaSystem has real servers and processes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar
from uuid import UUID

from services.runtime.records import LaneKey
from tests.protocol.laws.system_state import DeadLetterFacts, LaneFacts, SystemState
from tests.protocol.toy.events import ToyInput
from tests.protocol.toy.names import Names
from tests.protocol.toy.service import Release

Headers = Sequence[tuple[str, bytes | None]]
RELEASE = Release()
SESSION_S = 6.0  # after which the group reassigns the lanes of a silent member


class NotSettledError(AssertionError):
    """An expected state was not reached in time; the text names what was missing."""


class Member(Protocol):
    """One process of a stage's group."""

    stage: str

    @property
    def is_alive(self) -> bool: ...
    @property
    def name(self) -> str:
        """The owner's name in its lanes' rows."""
        ...

    def kill(self) -> None:
        """Kill it like SIGKILL: it reports to nobody."""
        ...

    def pause(self) -> None:
        """Stop it like SIGSTOP, wherever it is."""
        ...

    def resume(self) -> None: ...
    def stop(self) -> int:
        """Stop it in order. Returns its exit code."""
        ...


Member_co = TypeVar("Member_co", bound=Member, covariant=True)


class System(Protocol):
    """What laws do to the system. Seconds are those of its own clock."""

    names: Names

    def start(
        self, stage: str, *, at: str = "", release: Release = RELEASE, **settings: object
    ) -> Member:
        """Start a member. `at`: as in tests/protocol/toy/sabotage.py; `settings`: of the runtime,
        by name.
        """
        ...

    def run(self, seconds: float) -> None:
        """Let the members work."""
        ...

    def until(self, what: str, done: Callable[[], bool], seconds: float = 120.0) -> None:
        """Let the members work until `done`."""
        ...

    def settle(self, seconds: float = 120.0) -> None:
        """Let the members work until every lane has lag 0 and an empty outbox, and no replay is on
        its way. Stopped lanes may wait.
        """
        ...

    def state(self) -> SystemState: ...
    def lanes(self, stage: str) -> list[LaneFacts]: ...
    def dead_letters(self, stage: str = "first") -> list[DeadLetterFacts]: ...

    # Input.

    def send(
        self,
        *inputs: ToyInput,
        topic: str | None = None,
        partition: int | None = None,
        headers: Headers = (),
    ) -> None:
        """Send inputs and wait for their acknowledgements. Without a topic, the id decides which of
        the two is used.
        """
        ...

    def send_bytes(
        self, topic: str, value: bytes | None, *, key: bytes | None = None, headers: Headers = ()
    ) -> None:
        """Send bytes that cannot be parsed."""
        ...

    # Faults.

    def broker_unavailable(self) -> AbstractContextManager[None]: ...
    def database_unavailable(self) -> AbstractContextManager[None]: ...
    def recreate_topic(self, topic: str) -> None: ...
    def delete_records(self, lane: LaneKey, before: int) -> None:
        """Delete records as retention does."""
        ...

    def add_partitions(self, total: int) -> None:
        """Add partitions to all input topics and to the stages' output topics."""
        ...

    # Commands of operators.

    def rewind(self, stage: str, lane: LaneKey, to: int) -> None: ...
    def skip(self, stage: str, lane: LaneKey) -> None: ...
    def accept_topic(self, stage: str, topic: str) -> None: ...
    def control(self, stage: str, *, paused: bool, rate: float | None = None) -> None: ...
    def is_paused(self, stage: str) -> bool: ...
    def request_replays(self, dead_letters: Sequence[UUID]) -> None:
        """Request the replay of dead letters."""
        ...

    def restored(self) -> None:
        """Raise the generation."""
        ...


class SystemOf(System, Protocol[Member_co]):
    """A system whose members have a type of their own, with more than all members have."""

    def start(
        self, stage: str, *, at: str = "", release: Release = RELEASE, **settings: object
    ) -> Member_co: ...


def lane(system: System, stage: str, topic: str, partition: int = 0) -> LaneFacts:
    return next(row for row in system.lanes(stage) if row.lane == (topic, partition))


def wait_until_owned(system: System, *members: Member, seconds: float = 120.0) -> None:
    """Wait until these members, and no others, own all lanes of their stage."""
    wanted = {member.name for member in members}

    def done() -> bool:
        owners = [row.owner for row in system.lanes(members[0].stage) if row.lane.topic != "@timer"]
        return len(owners) > 0 and set(owners) == wanted

    system.until(f"lanes of {members[0].stage} owned by {wanted}", done, seconds)


def start_both_stages(system: SystemOf[Member_co], **settings: Any) -> Member_co:
    """Start a member of each stage. Return that of the first stage, once it owns all of its lanes;
    `settings` are its own.
    """
    system.start("second")
    member = system.start("first", **settings)
    wait_until_owned(system, member)
    return member


def feed_until_dead(system: System, victim: Member, *, seed: int = 0) -> None:
    """Send inputs until a sabotage ends the process that works them."""
    for number in range(400):
        if not victim.is_alive:
            return
        system.send(*story(seed, 8, name=f"feed{number}"))
        system.run(0.05)
    raise NotSettledError(f"{victim.name} lives on")


def story(seed: int, count: int, keys: int = 10, *, name: str = "s") -> list[ToyInput]:
    """Return a realistic mixture of inputs, the same for the same seed."""
    rng = random.Random(seed)
    inputs = []
    for number in range(count):
        key = f"key-{rng.randrange(keys)}"
        what = rng.choices(
            ("release", "add", "drop", "cancel", "restore", "note"), (3, 5, 1, 1, 1, 1)
        )[0]
        child = f"c{rng.randrange(6)}" if what in {"add", "drop"} else ""
        inputs.append(
            ToyInput(f"{name}-{seed}-{number}", key, what, child, amount=rng.randrange(5))
        )
    return inputs


def stormed(inputs: Sequence[ToyInput], seed: int, copies: int = 3) -> list[ToyInput]:
    """Return each input several times, shuffled."""
    many = [each for each in inputs for _ in range(copies)]
    random.Random(seed).shuffle(many)
    return many


def poisoned(inputs: Sequence[ToyInput], seed: int, share: float = 0.1) -> list[ToyInput]:
    """Return the inputs with a share of poison, of every kind."""
    rng = random.Random(seed)
    kinds = ("parse", "handle", "check", "nul")
    return [poison(each, rng.choice(kinds)) if rng.random() < share else each for each in inputs]


def poison(sound: ToyInput, kind: str) -> ToyInput:
    """Return an input as poison: `check` violates a constraint (SQLSTATE 23), `nul` cannot be
    stored (22), `parse` and `handle` raise there.
    """
    fields = {name: getattr(sound, name) for name in ToyInput.__slots__} | {"poison": kind}
    if kind == "check":
        fields["amount"] = -1
    if kind == "nul":
        fields["note"] = "before\0after"
    return ToyInput(**fields)

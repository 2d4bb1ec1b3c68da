"""The faults. Each breaks something in a run and repairs it; the run then has to recover."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.protocol.laws.system import poisoned, stormed, story
from tests.protocol.toy.service import Release

if TYPE_CHECKING:
    from tests.protocol.chaos.run import ChaosRun

Fault = Callable[["ChaosRun"], None]
PARTITIONS_MAX = 12
POINTS = ("transaction_begun", "committing", "committed", "produced", "published", "acquired")


def killed_at_a_point(run: ChaosRun) -> None:
    """SIGKILL at a random point of a batch."""
    stage, point = run.rng.choice(run.stages), run.rng.choice(POINTS)
    member = run.start(stage, at=f"{point}:kill:{run.rng.randint(1, 12)}")
    run.feed(4.0, until=lambda: not member.is_alive)
    run.end(member)


def killed_at_any_moment(run: ChaosRun) -> None:
    member = run.any_member()
    run.feed(run.rng.uniform(0.1, 1.0))
    run.end(member)


def all_of_a_stage_killed(run: ChaosRun) -> None:
    stage = run.rng.choice(run.stages)
    run.feed(run.rng.uniform(0.1, 1.0))
    for member in run.members(stage):
        run.end(member)


def paused(run: ChaosRun) -> None:
    """SIGSTOP, for less or more than a session timeout."""
    member = run.any_member()
    member.pause()
    run.feed(run.rng.choice((0.5, 3.0, 8.0, 10.0)))
    member.resume()


def stopped_inside_its_transaction(run: ChaosRun) -> None:
    member = run.start(
        run.rng.choice(run.stages), at=f"transaction_begun:stop:{run.rng.randint(1, 6)}"
    )
    run.feed(4.0, until=lambda: member.is_stopped)
    run.feed(run.rng.choice((1.0, 8.0)))
    member.resume()


def came_and_went(run: ChaosRun) -> None:
    """A storm of rebalances."""
    for _ in range(3):
        member = run.start(run.rng.choice(run.stages))
        run.feed(run.rng.uniform(0.3, 1.5))
        if run.rng.random() < 0.5:
            run.end(member)
        else:
            member.stop()


def answers_lost(run: ChaosRun) -> None:
    for _ in range(run.rng.randint(1, 4)):
        run.rng.choice((run.proxy.lose_answer, run.proxy.lose_commit))()
        run.feed(0.5)


def database_fell_over(run: ChaosRun) -> None:
    with run.system.database_unavailable():
        run.feed(run.rng.uniform(0.2, 3.0))


def database_paused(run: ChaosRun) -> None:
    """The broker closes no connection, and responds to no request."""
    run.stack.postgres.pause()
    try:
        run.feed(run.rng.choice((1.0, 5.0)))
    finally:
        run.stack.postgres.resume()


def broker_killed(run: ChaosRun) -> None:
    broker = run.rng.choice(run.stack.kafka)
    run.feed(0.3)
    broker.stop(immediate=True)
    try:
        run.let_run(run.rng.uniform(0.5, 4.0))
    finally:
        broker.start()


def broker_paused(run: ChaosRun) -> None:
    """Deliveries fail, lanes are paused for their acknowledgements, sessions may end."""
    broker = run.rng.choice(run.stack.kafka)
    run.feed(0.3)
    broker.pause()
    try:
        run.let_run(run.rng.choice((1.5, 4.0, 8.0)))
    finally:
        broker.resume()


def rewound(run: ChaosRun) -> None:
    """By an operator, to anywhere that the log still holds."""
    for _ in range(run.rng.randint(1, 3)):
        stage = run.rng.choice(run.stages)
        lanes = [
            row
            for row in run.system.lanes(stage)
            if row.lane.topic in run.system.names.own_inputs[stage]
        ]
        if lanes:
            row = run.rng.choice(lanes)
            run.system.rewind(stage, row.lane, run.rng.randint(row.first_offset, row.next_offset))
        run.feed(0.3)


def duplicates_stormed(run: ChaosRun) -> None:
    run.system.send(
        *stormed(story(run.number, 100, 20, name=f"dup{run.number}"), run.number, copies=4)
    )


def poison_stormed(run: ChaosRun) -> None:
    run.system.send(*poisoned(story(run.number, 300, 20, name=f"poison{run.number}"), run.number))


def paused_and_resumed(run: ChaosRun) -> None:
    stage = run.rng.choice(run.stages)
    run.system.control(stage, paused=True)
    run.feed(run.rng.uniform(0.2, 2.0))
    run.system.control(stage, paused=False)


def partitions_added(run: ChaosRun) -> None:
    if run.system.partitions < PARTITIONS_MAX:
        run.system.add_partitions(run.system.partitions + 3)
    run.feed(1.0)


def dead_letters_replayed(run: ChaosRun) -> None:
    """Replays, with a release that can work some of them."""
    run.system.send(
        *poisoned(story(run.number, 60, 20, name=f"letter{run.number}"), run.number, share=0.2)
    )
    run.system.settle(60)
    for member in run.members("first"):
        member.stop()
    run.start("first", release=Release(is_fixed=True))
    run.system.request_replays(
        [dead_letter.id for dead_letter in run.system.dead_letters() if dead_letter.state == "open"]
    )
    run.feed(1.0)


def two_at_once(run: ChaosRun) -> None:
    """A process is killed while its server is unavailable."""
    member = run.any_member()
    with run.system.database_unavailable():
        run.feed(0.5)
        run.end(member)


FAULTS: tuple[Fault, ...] = (
    killed_at_a_point,
    killed_at_any_moment,
    all_of_a_stage_killed,
    paused,
    stopped_inside_its_transaction,
    came_and_went,
    answers_lost,
    database_fell_over,
    database_paused,
    broker_killed,
    broker_paused,
    rewound,
    duplicates_stormed,
    poison_stormed,
    paused_and_resumed,
    partitions_added,
    dead_letters_replayed,
    two_at_once,
)

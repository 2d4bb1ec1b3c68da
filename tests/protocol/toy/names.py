"""What this toy is called on the broker: each test has its own topics and groups."""

import os
from typing import NamedTuple


class Names(NamedTuple):
    """All that the prefix decides."""

    prefix: str

    @property
    def inputs(self) -> tuple[str, str]:
        """Two, so that a key is fed by two lanes."""
        return f"{self.prefix}.a", f"{self.prefix}.b"

    @property
    def outputs(self) -> dict[str, str]:
        """What each stage says."""
        return {"first": f"{self.prefix}.first", "second": f"{self.prefix}.second"}

    @property
    def groups(self) -> dict[str, str]:
        return {"first": f"{self.prefix}.toy.first", "second": f"{self.prefix}.toy.second"}

    @property
    def own_inputs(self) -> dict[str, tuple[str, ...]]:
        """What each stage reads, without its replays."""
        return {"first": (*self.inputs, self.outputs["second"]), "second": (self.outputs["first"],)}

    @property
    def readers(self) -> dict[str, tuple[str, ...]]:
        """The stages that read a topic."""
        read = {stage: {*topics, self.replay[stage]} for stage, topics in self.own_inputs.items()}
        return {
            topic: tuple(stage for stage, topics in read.items() if topic in topics)
            for topic in self.topics
        }

    @property
    def dead(self) -> dict[str, str]:
        return {stage: f"{group}.dead.v1" for stage, group in self.groups.items()}

    @property
    def replay(self) -> dict[str, str]:
        return {stage: f"{group}.replay.v1" for stage, group in self.groups.items()}

    @property
    def topics(self) -> tuple[str, ...]:
        return (*self.inputs, *self.outputs.values(), *self.dead.values(), *self.replay.values())


NAMES = Names(os.environ.get("TOY_PREFIX", "toy"))

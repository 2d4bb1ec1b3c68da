"""The toy's topics and groups. Each test has its own prefix."""

import os
from typing import NamedTuple


class Names(NamedTuple):
    """All names with one prefix."""

    prefix: str

    @property
    def inputs(self) -> tuple[str, str]:
        """Two topics, so that a key is fed by two lanes."""
        return f"{self.prefix}.a", f"{self.prefix}.b"

    @property
    def outputs(self) -> dict[str, str]:
        """The topics of each stage's snapshots."""
        return {"first": f"{self.prefix}.first", "second": f"{self.prefix}.second"}

    @property
    def groups(self) -> dict[str, str]:
        return {"first": f"{self.prefix}.toy.first", "second": f"{self.prefix}.toy.second"}

    @property
    def own_inputs(self) -> dict[str, tuple[str, ...]]:
        """The topics that each stage reads, without its replay topic."""
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

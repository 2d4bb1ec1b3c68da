"""The pages of docs/reference. Each function turns what the code declares into Markdown."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

import services
from deploy.docs.commands import commands_page
from deploy.docs.features import features_page
from deploy.docs.markdown import table
from schemas.topics import DAY_MS, GROUPS, MIB, Topic, all_topics
from services.runtime import errors, settings
from services.runtime.admin.refusals import CommandRefused, TargetUnknown
from services.runtime.observability import metrics
from services.runtime.settings import LaneSettings, Servers

FROM_CODE = (
    "<!-- Made by `python -m deploy.docs` from the code. Change the code, then run it again. "
    "-->\n\n"
)
FROM_REGISTER = (
    "<!-- Made by `python -m deploy.docs` from tests/features.toml and the marks of the tests. "
    "-->\n\n"
)
CONSEQUENCES: dict[type[errors.StublineError], str] = {
    errors.Poison: "the record becomes a dead letter",
    errors.Transient: "the service waits and tries again",
    errors.Fenced: "the batch is dropped, the lane acquired again",
    errors.Stop: "the lane stops, the others go on",
    errors.Fatal: "the process ends with a non-zero code",
    CommandRefused: "the command changes nothing (exit code 1)",
    TargetUnknown: "the command changes nothing (exit code 3)",
    errors.StublineError: "the command fails (exit code 1)",
}


SETTINGS = """# Settings

All settings come from the environment. A service refuses to start (exit code 78, one line) when a
name under its prefix is unknown, and offers the nearest.

## Servers

Every process needs these; `make` sets them when it starts the local stack.

"""
LANE_SETTINGS = """
## Every service

Under each service's prefix, for example `STUBLINE_INGEST_BATCH_RECORDS_MAX`. Figures are per
process; the unit is the last part of the name.

"""
METRICS = """# Metrics

Each process serves them at `/metrics` of its health server, for Prometheus. Counters are raised
once a batch, after its commit; gauges are set about once a second. A process has series only for
the lanes that it owns.

"""
TOPICS = """# Topics

`stubline migrate` creates them and corrects what differs; `stubline topics check` only compares.
An installation may have more partitions, larger records and more replicas than these. A record of
more than 8,257,536 bytes of key, value and headers, uncompressed, becomes a dead letter
(`record-too-large`) all the same, because its copy and its replay must fit into a topic. The client
decompresses a fetched batch whole and bounds that for zstd alone (100 MB): a client that may
write compressed batches can make a worker need their uncompressed size in memory. Replicas: three,
or as many as there are brokers; with three, `min.insync.replicas` is 2.

"""
ERRORS = """# Errors

A code is permanent: dead letters, logs and dashboards go by it. Each has a section in the runbook
with commands ready to paste.

"""


def import_everything() -> None:
    """Import every module of the services: settings, metrics and errors are known once imported."""
    for module in pkgutil.walk_packages(services.__path__, "services."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)


def pages() -> dict[str, str]:
    """Return the text of each page by its file name in docs/reference."""
    import_everything()
    texts = {
        "settings.md": settings_page(),
        "metrics.md": metrics_page(),
        "topics.md": topics_page(),
        "errors.md": errors_page(),
        "commands.md": commands_page(),
    }
    generated = {name: FROM_CODE + text for name, text in texts.items()}
    return generated | {"features.md": FROM_REGISTER + features_page()}


def settings_page() -> str:
    services_own = sorted(descendants(LaneSettings), key=settings.prefix)
    others = [
        kind
        for kind in descendants(BaseSettings)
        if not issubclass(kind, LaneSettings) and kind is not Servers
    ]
    sections = [SETTINGS, settings_table(Servers, Servers.model_fields)]
    sections += [LANE_SETTINGS, settings_table(LaneSettings, LaneSettings.model_fields)]
    for kind in [*services_own, *sorted(others, key=settings.prefix)]:
        if fields := own_fields(kind):
            sections.append(f"\n## `{settings.prefix(kind)}*`\n\n{inspect.getdoc(kind) or ''}\n\n")
            sections.append(settings_table(kind, fields))
    return "".join(sections)


def own_fields(kind: type[BaseSettings]) -> dict[str, FieldInfo]:
    """The fields that `kind` declares, or inherits with another default or description."""
    return {
        name: field
        for name, field in kind.model_fields.items()
        if not is_inherited(field, LaneSettings.model_fields.get(name))
    }


def is_inherited(field: FieldInfo, inherited: FieldInfo | None) -> bool:
    return inherited is not None and (field.default, field.description) == (
        inherited.default,
        inherited.description,
    )


def descendants(kind: type[BaseSettings]) -> list[type[BaseSettings]]:
    """The subclasses of `kind` that services declare: tests have settings of their own."""
    below = [
        subclass for child in kind.__subclasses__() for subclass in (child, *descendants(child))
    ]
    return [
        subclass
        for subclass in dict.fromkeys(below)
        if subclass.__module__.startswith("services.") and subclass is not LaneSettings
    ]


def settings_table(kind: type[BaseSettings], fields: dict[str, FieldInfo]) -> str:
    rows = [
        (f"`{shown_name(kind, name)}`", default(field), bounds(field), field.description or "")
        for name, field in fields.items()
    ]
    return table(("name", "default", "bounds", "what turning it means"), rows)


def shown_name(kind: type[BaseSettings], field: str) -> str:
    return field.upper() if kind is LaneSettings else settings.variable(kind, field)


def default(field: FieldInfo) -> str:
    return "required" if field.default is PydanticUndefined else f"`{field.default}`"


def bounds(field: FieldInfo) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = [
        f"{sign} {getattr(constraint, name)}"
        for constraint in field.metadata
        for name, sign in signs.items()
        if hasattr(constraint, name)
    ]
    limits += [
        f"`{constraint.pattern}`"
        for constraint in field.metadata
        if getattr(constraint, "pattern", None)
    ]
    return ", ".join(limits)


def metrics_page() -> str:
    rows = [
        (f"`{metric.name}`", type(metric).__name__.lower(), ", ".join(metric.labels), metric.help)
        for metric in metrics.declared()
    ]
    return METRICS + table(("name", "kind", "labels", "what it counts or measures"), rows)


def topics_page() -> str:
    readers = readers_of_topics()
    rows = [
        (
            f"`{topic.name}`",
            topic.key,
            topic.written_by,
            ", ".join(readers[topic.name]) or "people and tools",
            f"{topic.partitions}",
            f"{topic.retention_ms // DAY_MS} days",
            f"{topic.max_message_bytes // MIB} MiB",
            timestamps(topic),
        )
        for topic in all_topics()
    ]
    columns = (
        *("topic", "key", "written by", "read by"),
        *("partitions", "kept", "largest record", "timestamps from"),
    )
    return TOPICS + table(columns, rows)


def readers_of_topics() -> dict[str, list[str]]:
    """The groups that read each topic; a group's replay topic is read by that group alone."""
    readers = {
        topic.name: [group.name for group in GROUPS if topic.name in group.topics]
        for topic in all_topics()
    }
    for group in GROUPS:
        readers[f"{group.name}.replay.v1"].append(group.name)
    return readers


def timestamps(topic: Topic) -> str:
    return "the broker (LogAppendTime)" if topic.is_stamped_by_broker else "as the broker is set"


def errors_page() -> str:
    rows = [
        (
            f"[`{code}`](../../deploy/runbooks/errors.md#{code})",
            consequence(kind),
            " ".join((inspect.getdoc(kind) or "").split()),  # one line: a row of a table
            kind.next_step,
        )
        for code, kind in errors.catalogue().items()
        if kind.__module__.startswith("services.")
    ]
    return ERRORS + table(("code", "so", "what it is", "next step"), rows)


def consequence(kind: type[errors.StublineError]) -> str:
    return next(CONSEQUENCES[base] for base in kind.__mro__ if base in CONSEQUENCES)

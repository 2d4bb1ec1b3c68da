"""The pages of docs/reference, each a function from what the code declares to Markdown."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Sequence

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

import services
from deploy.docs.commands import commands_page
from schemas.topics import DAY_MS, GROUPS, MIB, Topic, all_topics
from services.runtime import errors, settings
from services.runtime.observability import metrics
from services.runtime.settings import LaneSettings, Servers

HEAD = (
    "<!-- Made by `python -m deploy.docs` from the code. Change the code, then run it again. "
    "-->\n\n"
)
BRANCHES = {
    "Poison": "the record becomes a dead letter",
    "Transient": "the service waits and tries again",
    "Fenced": "the batch is dropped, the lane acquired again",
    "Stop": "the lane stops, the others go on",
    "Fatal": "the process ends with a non-zero code",
    "Refused": "the command changes nothing (exit code 1)",
    "Unknown": "the command changes nothing (exit code 3)",
    "StublineError": "the command fails (exit code 1)",
}


def import_everything() -> None:
    """What declares something is known only once it is imported."""
    for module in pkgutil.walk_packages(services.__path__, "services."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)


def pages() -> dict[str, str]:
    """Each page's text by its file name in docs/reference."""
    import_everything()
    made = {
        "settings.md": settings_page(),
        "metrics.md": metrics_page(),
        "topics.md": topics_page(),
        "errors.md": errors_page(),
        "commands.md": commands_page(),
    }
    return {name: HEAD + text for name, text in made.items()}


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    lines += [f"| {' | '.join(str(cell).replace('|', '&#124;') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    own = sorted(descendants(LaneSettings), key=settings.prefix)
    others = [
        kind
        for kind in descendants(BaseSettings)
        if not issubclass(kind, LaneSettings) and kind is not Servers
    ]
    text = (
        "# Settings\n\nAll settings come from the environment. A service refuses to start (exit "
        "code 78, one line) when a "
        "name under its prefix is unknown, and offers the nearest.\n\n## Servers\n\nEverything "
        "needs these two; `make` sets "
        "them when it starts the local stack.\n\n"
    )
    text += settings_table(Servers, Servers.model_fields)
    text += (
        "\n## Every service\n\nUnder each service's prefix, for example "
        "`STUBLINE_INGEST_BATCH_RECORDS_MAX`. Figures are per "
        "process, the unit is the last part of the name.\n\n"
    )
    text += settings_table(LaneSettings, LaneSettings.model_fields)
    for kind in [*own, *sorted(others, key=settings.prefix)]:
        fields = {
            name: it
            for name, it in kind.model_fields.items()
            if it is not LaneSettings.model_fields.get(name)
        }
        fields = {
            name: it
            for name, it in fields.items()
            if not same(it, LaneSettings.model_fields.get(name))
        }
        if fields:
            text += f"\n## `{settings.prefix(kind)}*`\n\n{inspect.getdoc(kind) or ''}\n\n{settings_table(kind, fields)}"
    return text


def same(field: FieldInfo, inherited: FieldInfo | None) -> bool:
    return inherited is not None and (field.default, field.description) == (
        inherited.default,
        inherited.description,
    )


def descendants(kind: type[BaseSettings]) -> list[type[BaseSettings]]:
    """Only what services declare: tests have settings of their own."""
    below = [it for child in kind.__subclasses__() for it in (child, *descendants(child))]
    return [
        it
        for it in dict.fromkeys(below)
        if it.__module__.startswith("services.") and it is not LaneSettings
    ]


def settings_table(kind: type[BaseSettings], fields: dict[str, FieldInfo]) -> str:
    rows = [
        (f"`{shown_name(kind, name)}`", default(it), bounds(it), it.description or "")
        for name, it in fields.items()
    ]
    return table(("name", "default", "bounds", "what turning it means"), rows)


def shown_name(kind: type[BaseSettings], field: str) -> str:
    return field.upper() if kind is LaneSettings else settings.variable(kind, field)


def default(field: FieldInfo) -> str:
    return "required" if field.default is PydanticUndefined else f"`{field.default}`"


def bounds(field: FieldInfo) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    found = [
        f"{sign} {getattr(it, name)}"
        for it in field.metadata
        for name, sign in signs.items()
        if hasattr(it, name)
    ]
    found += [f"`{it.pattern}`" for it in field.metadata if getattr(it, "pattern", None)]
    return ", ".join(found)


def metrics_page() -> str:
    rows = [
        (f"`{it.name}`", type(it).__name__.lower(), ", ".join(it.labels), it.help)
        for it in metrics.declared()
    ]
    return (
        "# Metrics\n\nEach process serves them at `/metrics` of its health door, for Prometheus. "
        "Sums are raised once a batch, "
        "after its commit; gauges about once a second. Only lanes that the process holds have "
        "series there.\n\n" + table(("name", "kind", "labels", "says"), rows)
    )


def topics_page() -> str:
    readers = {
        topic.name: [it.name for it in GROUPS if topic.name in it.topics] for topic in all_topics()
    }
    for group in GROUPS:
        readers[f"{group.name}.replay.v1"].append(group.name)
    rows = [
        (
            f"`{it.name}`",
            it.key,
            it.written_by,
            ", ".join(readers[it.name]) or "people and tools",
            *limits(it),
        )
        for it in all_topics()
    ]
    return (
        "# Topics\n\n`stubline migrate` makes them and mends what differs, `stubline topics "
        "check` only compares. More "
        "partitions, larger records and more replicas than these are an installation's right; a "
        "record of more than 8,257,536 "
        "bytes of key, value and headers, unpacked, is a dead letter all the same "
        "(`record-too-large`), for its copy and its "
        "replay must fit into a topic. The client unpacks a fetched batch whole, and bounds that "
        "for zstd alone (100 MB): whoever may "
        "write compressed batches can make a worker need their unpacked size in memory. Replicas: "
        "three, or as many as "
        "there are brokers; with three, `min.insync.replicas` is 2.\n\n"
        + table(
            (
                "topic",
                "key",
                "written by",
                "read by",
                "partitions",
                "kept",
                "largest record",
                "stamped by",
            ),
            rows,
        )
    )


def limits(topic: Topic) -> tuple[str, str, str, str]:
    return (
        str(topic.partitions),
        f"{topic.retention_ms // DAY_MS} days",
        f"{topic.max_message_bytes // MIB} MiB",
        "the broker (LogAppendTime)" if topic.is_stamped_by_broker else "as the broker is set",
    )


def errors_page() -> str:
    rows = [
        (
            f"[`{code}`](../../deploy/runbooks/errors.md#{code})",
            meaning(kind),
            " ".join((inspect.getdoc(kind) or "").split()),  # one line: a row of a table
            kind.next_step,
        )
        for code, kind in errors.catalogue().items()
        if kind.__module__.startswith("services.")
    ]
    return (
        "# Errors\n\nA code is permanent: dead letters, logs and dashboards go by it. Each has a "
        "section in the runbook with "
        "commands ready to paste.\n\n" + table(("code", "so", "what it is", "next step"), rows)
    )


def meaning(kind: type[errors.StublineError]) -> str:
    return next(BRANCHES[it.__name__] for it in kind.__mro__ if it.__name__ in BRANCHES)

"""What is counted, and how it is called. A name is declared once, checked, and documented from its
declaration.

Names begin with `stubline_` and end in a base unit; labels come from a short list, so no metric
grows with the number of keys. Nothing here is called per record: a batch raises its sums once,
after its commit.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import prometheus_client as prometheus

LABELS = frozenset(
    {
        "group",
        "topic",
        "partition",
        "outcome",
        "code",
        "source",
        "service",
        "state",
        "kind",
        "status",
        "destination",
    }
)
NAME = re.compile(r"stubline_[a-z0-9]+(_[a-z0-9]+)*")
NO_BASE_UNIT = re.compile(r"_(ms|millis|milliseconds|minutes|hours|kb|mb|kilobytes|percent)(_|$)")
SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    120.0,
    600.0,
)


@dataclass(frozen=True, slots=True)
class _Metric:
    name: str
    help: str
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name) or NO_BASE_UNIT.search(self.name):
            raise ValueError(
                f"{self.name}: a name is stubline_<what>_<base unit>, in seconds, bytes or a count"
            )
        if not self.help.endswith("."):
            raise ValueError(f"{self.name}: its help is a sentence")
        if strange := set(self.labels) - LABELS:
            raise ValueError(
                f"{self.name}: label {', '.join(sorted(strange))} is not one of "
                f"{', '.join(sorted(LABELS))}"
            )


@dataclass(frozen=True, slots=True)
class Counter(_Metric):
    """Only rises; starts at zero with the process."""

    def __post_init__(self) -> None:
        _Metric.__post_init__(self)
        if not self.name.endswith("_total"):
            raise ValueError(f"{self.name}: a counter ends in _total")

    def add(self, amount: float = 1, **labels: str) -> None:
        """Once per batch, with its sum."""
        series = _native(self, prometheus.Counter)
        (series.labels(**labels) if labels else series).inc(amount)


@dataclass(frozen=True, slots=True)
class Gauge(_Metric):
    """What stands now."""

    def set(self, content: float, **labels: str) -> None:
        series = _native(self, prometheus.Gauge)
        (series.labels(**labels) if labels else series).set(content)

    def set_all(self, contents: Mapping[tuple[str, ...], float]) -> None:
        """Exactly these series, by their labels' values in order. What another process tells now is
        not told here too.
        """
        series = _native(self, prometheus.Gauge)
        for values, content in contents.items():
            series.labels(*values).set(content)
        for told in [sample.labels for metric in series.collect() for sample in metric.samples]:
            if (values := tuple(told[label] for label in self.labels)) not in contents:
                series.remove(*values)


@dataclass(frozen=True, slots=True)
class Histogram(_Metric):
    """How a quantity spreads."""

    buckets: tuple[float, ...] = SECONDS

    def observe(self, content: float, **labels: str) -> None:
        series = _native(self, prometheus.Histogram)
        (series.labels(**labels) if labels else series).observe(content)


Metric = Counter | Gauge | Histogram
M = TypeVar("M", Counter, Gauge, Histogram)
P = TypeVar("P", prometheus.Counter, prometheus.Gauge, prometheus.Histogram)

prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which no dashboard of ours reads
_REGISTRY = prometheus.CollectorRegistry()
_DECLARED: dict[
    str, tuple[Metric, prometheus.Counter | prometheus.Gauge | prometheus.Histogram]
] = {}


class UndeclaredMetric(ValueError):
    """A name that nobody declared: it would be counted and never be seen."""


def declare(metric: M) -> M:
    """At import, and once: a name has one meaning in a process, and the reference page is made from
    what is declared.
    """
    if metric.name in _DECLARED:
        raise ValueError(f"{metric.name} is declared twice")
    _DECLARED[metric.name] = (metric, _build(metric))
    return metric


def _build(metric: Metric) -> prometheus.Counter | prometheus.Gauge | prometheus.Histogram:
    match metric:
        case Counter():
            return prometheus.Counter(metric.name, metric.help, metric.labels, registry=_REGISTRY)
        case Gauge():
            return prometheus.Gauge(metric.name, metric.help, metric.labels, registry=_REGISTRY)
        case Histogram():
            return prometheus.Histogram(
                metric.name, metric.help, metric.labels, registry=_REGISTRY, buckets=metric.buckets
            )


def _native(metric: Metric, kind: type[P]) -> P:
    series = _DECLARED[metric.name][1] if metric.name in _DECLARED else None
    if not isinstance(series, kind):
        raise UndeclaredMetric(f"{metric.name} is not declared")
    return series


def check_counts(counts: Mapping[str, int]) -> None:
    """Inside the transaction, so that a misspelt name fails the batch and not the thread that has
    just committed it.
    """
    for name in counts:
        declared = _DECLARED.get(name)
        if declared is None or not isinstance(declared[0], Counter) or declared[0].labels:
            raise UndeclaredMetric(f"{name} is not a declared counter without labels")


def raise_counts(counts: Mapping[str, int]) -> None:
    """After the commit: what handlers counted becomes true only then."""
    check_counts(counts)
    for name, amount in counts.items():
        if amount:
            _native(_counter(name), prometheus.Counter).inc(amount)


def _counter(name: str) -> Metric:
    return _DECLARED[name][0]


def declared() -> list[Metric]:
    """All that has been declared by what is imported, by name."""
    return [_DECLARED[name][0] for name in sorted(_DECLARED)]


def exposition() -> bytes:
    """The text that /metrics answers."""
    return prometheus.generate_latest(_REGISTRY)


def value_of(name: str, **labels: str) -> float:
    """What a series reads now; zero when it was never told. For tests and tools."""
    return _REGISTRY.get_sample_value(name, labels) or 0.0

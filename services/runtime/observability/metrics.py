"""Declares metrics. A name is declared once and checked, and docs/reference/metrics.md is made from
its declaration.

Names begin with `stubline_` and end in a base unit; labels come from a short list, so no metric
grows with the number of keys. Nothing here is called per record: a batch adds its sums once, after
its commit.
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
            raise ValueError(f"{self.name}: its help must be a sentence")
        if unknown := set(self.labels) - LABELS:
            raise ValueError(
                f"{self.name}: label {', '.join(sorted(unknown))} is not one of "
                f"{', '.join(sorted(LABELS))}"
            )


@dataclass(frozen=True, slots=True)
class Counter(_Metric):
    """A sum that only rises. It starts at zero with the process."""

    def __post_init__(self) -> None:
        _Metric.__post_init__(self)
        if not self.name.endswith("_total"):
            raise ValueError(f"{self.name}: a counter ends in _total")

    def add(self, amount: float = 1, **labels: str) -> None:
        """Add a batch's sum."""
        series = _native(self, prometheus.Counter)
        (series.labels(**labels) if labels else series).inc(amount)


@dataclass(frozen=True, slots=True)
class Gauge(_Metric):
    """A current value."""

    def set(self, content: float, **labels: str) -> None:
        series = _native(self, prometheus.Gauge)
        (series.labels(**labels) if labels else series).set(content)

    def set_all(self, contents: Mapping[tuple[str, ...], float]) -> None:
        """Set exactly these series, by the values of their labels in order, and remove the others:
        another process reports those now.
        """
        series = _native(self, prometheus.Gauge)
        for values, content in contents.items():
            series.labels(*values).set(content)
        for labels in [sample.labels for metric in series.collect() for sample in metric.samples]:
            if (values := tuple(labels[label] for label in self.labels)) not in contents:
                series.remove(*values)


@dataclass(frozen=True, slots=True)
class Histogram(_Metric):
    """A distribution of observed values."""

    buckets: tuple[float, ...] = SECONDS

    def observe(self, content: float, **labels: str) -> None:
        series = _native(self, prometheus.Histogram)
        (series.labels(**labels) if labels else series).observe(content)


Metric = Counter | Gauge | Histogram
M = TypeVar("M", Counter, Gauge, Histogram)
P = TypeVar("P", prometheus.Counter, prometheus.Gauge, prometheus.Histogram)

# They are a second series for each counter, which no dashboard of ours reads.
prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotations
_REGISTRY = prometheus.CollectorRegistry()
_DECLARED: dict[
    str, tuple[Metric, prometheus.Counter | prometheus.Gauge | prometheus.Histogram]
] = {}


class UndeclaredMetric(ValueError):
    """A metric that is not declared: it would be counted and never be exposed."""


def declare(metric: M) -> M:
    """Register a metric at import. A name may be declared only once in a process."""
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
    """Raise UndeclaredMetric for a name that is not a declared counter without labels.

    Called inside the transaction: a misspelt name fails the batch, and not the loop after a commit.
    """
    for name in counts:
        declared = _DECLARED.get(name)
        if declared is None or not isinstance(declared[0], Counter) or declared[0].labels:
            raise UndeclaredMetric(f"{name} is not a declared counter without labels")


def raise_counts(counts: Mapping[str, int]) -> None:
    """Add what handlers counted. Called after the commit."""
    check_counts(counts)
    for name, amount in counts.items():
        if amount:
            _native(_counter(name), prometheus.Counter).inc(amount)


def _counter(name: str) -> Metric:
    return _DECLARED[name][0]


def declared() -> list[Metric]:
    """Return all metrics that the imported modules declare, by name."""
    return [_DECLARED[name][0] for name in sorted(_DECLARED)]


def exposition() -> bytes:
    """Return the body of /metrics."""
    return prometheus.generate_latest(_REGISTRY)


def value_of(name: str, **labels: str) -> float:
    """Return the current value of a series, or zero if it was never set. For tests and tools."""
    return _REGISTRY.get_sample_value(name, labels) or 0.0

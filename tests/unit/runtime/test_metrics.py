"""Laws of the metrics: a checked name, few labels, and only declared counters are raised."""

from __future__ import annotations

import secrets

import pytest

from services.runtime.observability import metrics
from services.runtime.observability.metrics import (
    Counter,
    Gauge,
    Histogram,
    UndeclaredMetric,
    declare,
)


def fresh(ending: str) -> str:
    return f"stubline_test_{secrets.token_hex(4)}_{ending}"


@pytest.mark.parametrize(
    ("kind", "name", "sentence", "labels"),
    [
        (Counter, "orders_total", "Counts.", ()),
        (Counter, "stubline_orders", "Counts.", ()),
        (Counter, "stubline_Orders_total", "Counts.", ()),
        (Counter, "stubline_orders_total", "counts", ()),
        (Gauge, "stubline_wait_ms", "Waits.", ()),
        (Histogram, "stubline_wait_milliseconds", "Waits.", ()),
        (Gauge, "stubline_size_kb", "Size.", ()),
        (Counter, "stubline_orders_total", "Counts.", ("order_id",)),
    ],
)
def test_a_name_outside_the_convention_is_refused(
    kind: type[Counter | Gauge | Histogram], name: str, sentence: str, labels: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match=name):
        kind(name, sentence, labels)


def test_a_name_has_one_definition() -> None:
    name = fresh("total")
    declare(Counter(name, "Counts."))
    with pytest.raises(ValueError, match="twice"):
        declare(Counter(name, "Counts otherwise."))


def test_counts_are_raised_by_name_after_a_check() -> None:
    one, other = (
        declare(Counter(fresh("total"), "One.")),
        declare(Counter(fresh("total"), "Other.")),
    )
    metrics.raise_counts({one.name: 3, other.name: 0})
    metrics.raise_counts({one.name: 2})
    assert (metrics.value_of(one.name), metrics.value_of(other.name)) == (5, 0)


def test_an_unknown_name_raises_nothing_of_its_batch() -> None:
    known = declare(Counter(fresh("total"), "Known."))
    with pytest.raises(UndeclaredMetric):
        metrics.raise_counts({known.name: 1, "stubline_mispelt_total": 1})
    assert metrics.value_of(known.name) == 0


def test_a_handler_counts_only_with_counters_without_labels() -> None:
    gauge = declare(Gauge(fresh("records"), "Gauge."))
    labelled = declare(Counter(fresh("total"), "Labelled.", ("group",)))
    for name in (gauge.name, labelled.name):
        with pytest.raises(UndeclaredMetric):
            metrics.check_counts({name: 1})


def test_a_gauge_forgets_what_another_process_reports_now() -> None:
    lag = declare(Gauge(fresh("records"), "Lag.", ("topic", "partition")))
    lag.set_all({("a", "0"): 1, ("a", "1"): 2})
    lag.set_all({("a", "1"): 3, ("b", "0"): 4})
    text = metrics.exposition().decode()
    exposed = {line for line in text.splitlines() if line.startswith(lag.name)}
    assert exposed == {
        f'{lag.name}{{partition="1",topic="a"}} 3.0',
        f'{lag.name}{{partition="0",topic="b"}} 4.0',
    }


def test_what_is_declared_is_exposed_with_its_sentence() -> None:
    histogram = declare(Histogram(fresh("seconds"), "How long.", ("group",)))
    histogram.observe(0.3, group="toy")
    text = metrics.exposition().decode()
    assert f"# HELP {histogram.name} How long." in text
    assert f'{histogram.name}_bucket{{group="toy",le="0.5"}} 1.0' in text
    assert histogram in metrics.declared()
    assert "_created" not in text

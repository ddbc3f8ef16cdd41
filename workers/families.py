"""Prometheus's families made in one line: one value, or one a label."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric


def gauge(name: str, what: str, value: float) -> Metric:
    """A value that goes up and down."""
    return GaugeMetricFamily(name, what, float(value))


def count(name: str, what: str, value: float | Decimal) -> Metric:
    """A value that only grows."""
    return CounterMetricFamily(name, what, float(value))


def gauges(name: str, what: str, label: str, values: Mapping[str, float]) -> Metric:
    """One such value for each value of a label."""
    family = GaugeMetricFamily(name, what, labels=(label,))
    for each, value in values.items():
        family.add_metric((each,), value)
    return family


def counts(name: str, what: str, label: str, values: Mapping[str, int]) -> Metric:
    """One such count for each value of a label. Copied first: others count on meanwhile."""
    family = CounterMetricFamily(name, what, labels=(label,))
    for each, value in dict(values).items():
        family.add_metric((each,), value)
    return family

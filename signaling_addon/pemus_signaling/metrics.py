"""Monitoring: metrics for Prometheus (https://prometheus.io), liveness and readiness.

The parts of the server count in plain numbers, which are read on request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from aiohttp import web
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from .net.addresses import Networks

PREFIX: Final = "pemus_"


def gauge(name: str, meaning: str, value: float) -> Metric:
    """Return a number that goes up and down."""
    return GaugeMetricFamily(PREFIX + name, meaning, value)


def counter(name: str, meaning: str, value: float) -> Metric:
    """Return a number that only goes up."""
    return CounterMetricFamily(PREFIX + name, meaning, value)


def counters(
    name: str, meaning: str, label: str, values: Mapping[str, float]
) -> Metric:
    """Return several numbers that only go up, by the value of a label."""
    family = CounterMetricFamily(PREFIX + name, meaning, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


class Metrics:
    """The pages for monitoring."""

    def __init__(
        self,
        readers: Networks,
        collect: Callable[[], Iterator[Metric]],
        is_ready: Callable[[], bool],
    ) -> None:
        """Allow clients in the networks `readers` to read what `collect` returns."""
        self.collect = collect
        self._readers = readers
        self._is_ready = is_ready
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def describe(self) -> list[Metric]:
        """Return nothing. The registry then does not read the metrics to learn their names."""
        return []

    def routes(self) -> list[web.RouteDef]:
        """Return the pages."""
        return [
            web.get("/metrics", self._get_metrics),
            web.get("/healthz", self._get_health),
            web.get("/readyz", self._get_readiness),
        ]

    async def _get_metrics(self, request: web.Request) -> web.Response:
        if (request.remote or "") not in self._readers:
            raise web.HTTPNotFound
        # As a header, because aiohttp rejects the version in `content_type`.
        return web.Response(
            body=generate_latest(self._registry),
            headers={"Content-Type": CONTENT_TYPE_LATEST},
        )

    async def _get_health(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _get_readiness(self, request: web.Request) -> web.Response:
        if not self._is_ready():
            return web.Response(
                status=503, text="stopping", headers={"Retry-After": "5"}
            )
        return web.Response(text="ok")

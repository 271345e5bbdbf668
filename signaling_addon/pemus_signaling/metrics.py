"""What monitoring asks for: how the server does, whether it lives, and whether it takes clients.

The parts count for themselves, in plain numbers, and are only read when somebody asks (https://prometheus.io).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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

type Read = Callable[[], float]
type ReadEach = Callable[[], dict[str, float]]
"""Returns a number for each value of the label."""


class Metrics:
    """A registry that reads the parts' own numbers."""

    def __init__(self, readers: Networks) -> None:
        """Let those read it whose addresses are in these networks."""
        self._readers = readers
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._gauges: list[tuple[str, str, Read]] = []
        self._counters: list[tuple[str, str, Read]] = []
        self._counter_families: list[tuple[str, str, str, ReadEach]] = []
        self.is_ready: Callable[[], bool] = lambda: False

    def gauge(self, name: str, meaning: str, read: Read) -> None:
        """Show what goes up and down."""
        self._gauges.append((name, meaning, read))

    def counter(self, name: str, meaning: str, read: Read) -> None:
        """Show what only goes up."""
        self._counters.append((name, meaning, read))

    def counters(self, name: str, meaning: str, label: str, read: ReadEach) -> None:
        """Show several of these, each with its value of a label."""
        self._counter_families.append((name, meaning, label, read))

    def collect(self) -> Iterator[Metric]:
        """Read everything."""
        for name, meaning, read in self._gauges:
            yield GaugeMetricFamily(PREFIX + name, meaning, value=read())
        for name, meaning, read in self._counters:
            yield CounterMetricFamily(PREFIX + name, meaning, value=read())
        for name, meaning, label, read_each in self._counter_families:
            family = CounterMetricFamily(PREFIX + name, meaning, labels=[label])
            for value, number in read_each().items():
                family.add_metric([value], number)
            yield family

    def describe(self) -> list[Metric]:
        """Return nothing: what there is shows when it is collected."""
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
        # The header is given as a whole: aiohttp would take the version for a mistake.
        return web.Response(
            body=generate_latest(self._registry),
            headers={"Content-Type": CONTENT_TYPE_LATEST},
        )

    async def _get_health(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _get_readiness(self, request: web.Request) -> web.Response:
        if not self.is_ready():
            return web.Response(
                status=503, text="stopping", headers={"Retry-After": "5"}
            )
        return web.Response(text="ok")

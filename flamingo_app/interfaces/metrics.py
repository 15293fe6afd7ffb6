"""What the server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
RATES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class Metrics:
    """Counters of one server, in a registry of their own.

    Args:
        num_waiting: tells how many requests wait.
    """

    def __init__(self, num_waiting: Callable[[], float]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.first_token = Histogram(
            "flamingo_first_token_seconds", "From a request to the first words", buckets=SECONDS, registry=self.registry
        )
        self.rate = Histogram(
            "flamingo_tokens_per_second",
            "Of each answer, from its first words on",
            buckets=RATES,
            registry=self.registry,
        )
        self.tokens = Counter("flamingo_tokens", "Tokens", ["kind"], registry=self.registry)
        self.answers = Counter("flamingo_answers", "Answers by how they ended", ["finish"], registry=self.registry)
        self.refusals = Counter("flamingo_refusals", "Requests refused by reason", ["reason"], registry=self.registry)
        queue = Gauge("flamingo_queue_depth", "Requests that wait", registry=self.registry)
        queue.set_function(num_waiting)

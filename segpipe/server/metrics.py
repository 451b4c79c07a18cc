"""What Prometheus may ask of a server: jobs by state, their seconds, the queue, memory; nothing of any patient."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from segpipe.server.service import Service

_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)


class Metrics:
    """One registry a server, so that several in one process do not mix."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._registry = CollectorRegistry()
        self._seconds = Histogram("segpipe_job_seconds", "Seconds of work on a job.", ["state"], buckets=_SECONDS, registry=self._registry)
        self._registry.register(self)
        service.workshop.watchers.append(lambda state, seconds: self._seconds.labels(state).observe(seconds))

    def text(self) -> bytes:
        """In the words of Prometheus."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client`: what is as it is at the moment."""
        counts = self._service.store.counts()
        jobs = GaugeMetricFamily("segpipe_jobs", "Jobs that are kept, by state.", labels=["state"])
        for state, count in counts.items():
            jobs.add_metric([state], count)
        yield jobs
        yield GaugeMetricFamily("segpipe_queue_length", "Jobs that wait.", value=counts["queued"])
        memory = GaugeMetricFamily("segpipe_memory_bytes", "Resident memory.", labels=["process"])
        memory.add_metric(["server"], psutil.Process().memory_info().rss)
        memory.add_metric(["workers"], self._service.workshop.memory())
        yield memory

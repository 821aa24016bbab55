"""One OpenTelemetry trace per epoch of Spark: appends of its tasks, commit, deliveries, the consumer's own spans."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import bowstring
from bowstring.streaming import foreach_batch_writer

from .conftest import JVM

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class Collector(TraceServiceServicer):
    """An OTLP receiver; its spans with the services that made them."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []

    def Export(  # noqa: N802 - the service's name for it
        self, request: ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        for of_resource in request.resource_spans:
            attributes = {one.key: one.value.string_value for one in of_resource.resource.attributes}
            for of_scope in of_resource.scope_spans:
                self.spans += [(attributes["service.name"], span) for span in of_scope.spans]
        return ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    """A receiver and its endpoint."""
    server, collector = grpc.server(ThreadPoolExecutor(4)), Collector()
    add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield collector, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


def tracer_of(service: str, endpoint: str) -> Tracer:
    """OpenTelemetry as an application sets it up."""
    provider = TracerProvider(resource=Resource({"service.name": service}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=endpoint, insecure=True)))
    return provider.get_tracer(service)


def attribute(span: Any, key: str) -> Any:
    for one in span.attributes:
        if one.key == key:
            return one.value.int_value if one.value.HasField("int_value") else one.value.string_value
    return None


def test_a_micro_batch_is_one_trace_to_the_consumers_own_spans(
    collector: tuple[Collector, str], numbers: Callable[..., DataFrame], checkpoint: str, connector: str
) -> None:
    found, endpoint = collector
    driver, worker = tracer_of("driver", endpoint), tracer_of("worker", endpoint)
    with bowstring.StreamCoordinator(otlp_endpoint=endpoint) as coordinator:
        client = coordinator.client()
        client.create_stream("numbers", partitions=2)
        client.subscribe("numbers", "team")
        write = foreach_batch_writer(url=client.url, stream="numbers", use_jvm_sink=connector == JVM)

        def write_traced(frame: DataFrame, epoch: int) -> None:
            with driver.start_as_current_span("micro-batch"):
                write(frame, epoch)

        # Two files of 125 rows in each of four micro-batches, and two tasks in each.
        writer = numbers(rows=1000, files=8, per_trigger=2).writeStream.option("checkpointLocation", checkpoint)
        query = writer.trigger(availableNow=True).foreachBatch(write_traced).start()
        query.awaitTermination()
        client.complete_stream("numbers")
        rows: dict[int, int] = defaultdict(int)
        with client.iterator("numbers", subscription="team", timeout=60) as batches:
            for handle in batches.handles():
                assert handle.traceparent is not None
                context = TraceContextTextMapPropagator().extract({"traceparent": handle.traceparent})
                with handle, worker.start_as_current_span("work", context=context):
                    assert handle.epoch is not None
                    rows[handle.epoch] += handle.batch.num_rows
        assert rows == {0: 250, 1: 250, 2: 250, 3: 250}

    spans = found.spans
    micro_batches = {span.span_id: span for service, span in spans if service == "driver"}
    by_trace: dict[bytes, list[tuple[str, Any]]] = defaultdict(list)
    for service, span in spans:
        if service != "driver":
            by_trace[span.trace_id].append((service, span))
    assert len(by_trace) == 4, "one trace per epoch"
    for trace in by_trace.values():
        named = defaultdict(list)
        for _, span in trace:
            named[span.name].append(span)
        assert set(named) == {"epoch numbers", "append numbers", "commit numbers", "deliver numbers", "work"}
        [whole] = named["epoch numbers"]
        assert attribute(whole, "bowstring.producer") == str(query.id)
        assert attribute(whole, "bowstring.rows") == 250
        assert {attribute(span, "bowstring.task") for span in named["append numbers"]} == {0, 1}
        for name in ("append numbers", "commit numbers", "deliver numbers"):
            assert {span.parent_span_id for span in named[name]} == {whole.span_id}
        # What the consumer did is part of its delivery.
        deliveries = {span.span_id for span in named["deliver numbers"]}
        assert {span.parent_span_id for span in named["work"]} <= deliveries
        assert sum(attribute(span, "bowstring.rows") for span in named["deliver numbers"]) == 250
        # And what Spark's driver did is linked to.
        [link] = whole.links
        assert micro_batches[link.span_id].trace_id == link.trace_id
    assert len(micro_batches) == 4

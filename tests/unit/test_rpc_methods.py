"""What is read from the API's descriptors."""

import pytest
from google.protobuf.descriptor import ServiceDescriptor

from pagekeeper.runtime.rpc.methods import Method, methods
from pagekeeper.v1 import (
    artifact_storage_service_pb2,
    fault_handler_service_pb2,
    memory_service_pb2,
    page_table_service_pb2,
    working_set_service_pb2,
)

SERVICES = [
    service
    for module in (
        artifact_storage_service_pb2,
        fault_handler_service_pb2,
        memory_service_pb2,
        page_table_service_pb2,
        working_set_service_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
]
METHODS = {method.path: method for service in SERVICES for method in methods(service)}

# Without a `request_id`, and yet they do something. Twice does no harm: what was flushed is not dirty any more, a
# snapshot replaces what it replaced, and an object that nobody names is swept away.
DO_NO_HARM_TWICE = {"FlushSession", "SnapshotSession", "PutBlobs"}
READS = (
    "Get",
    "List",
    "Search",
    "Recall",
    "Read",
    "Lookup",
    "Resident",
    "ContextAt",
    "Diff",
    "Replay",
    "Assemble",
)


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_every_rpc_has_a_method(service: ServiceDescriptor) -> None:
    bound = methods(service)
    assert [method.name for method in bound] == [method.name for method in service.methods]
    assert all(method.attribute.isidentifier() and method.attribute.islower() for method in bound)
    assert len({method.attribute for method in bound}) == len(bound)


def test_names_are_snake_case() -> None:
    method = METHODS["/pagekeeper.v1.PageTableService/MapPages"]
    assert (method.name, method.attribute) == ("MapPages", "map_pages")
    assert method.request is memory_service_pb2.AppendPagesRequest
    assert method.response is memory_service_pb2.AppendPagesResponse


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.path)
def test_what_may_be_repeated_without_an_id_does_no_harm(method: Method) -> None:
    """`remote` repeats such a call after an outcome that it does not know."""
    if not method.repeatable_by_id and not method.streams:
        assert method.name.startswith(READS) or method.name in DO_NO_HARM_TWICE

"""The services of the API, as their descriptors say them."""

from pagekeeper.v1 import (
    artifact_storage_service_pb2,
    fault_handler_service_pb2,
    memory_service_pb2,
    page_table_service_pb2,
    working_set_service_pb2,
)

MEMORY = memory_service_pb2.DESCRIPTOR.services_by_name["MemoryService"]
PAGE_TABLE = page_table_service_pb2.DESCRIPTOR.services_by_name["PageTableService"]
WORKING_SET = working_set_service_pb2.DESCRIPTOR.services_by_name["WorkingSetService"]
FAULT_HANDLER = fault_handler_service_pb2.DESCRIPTOR.services_by_name["FaultHandlerService"]
ARTIFACT_STORAGE = artifact_storage_service_pb2.DESCRIPTOR.services_by_name["ArtifactStorageService"]

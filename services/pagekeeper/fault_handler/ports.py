"""The methods of other services that fault-handler calls; the services and their remote proxies both have them."""

from typing import Protocol

from pagekeeper.runtime.identity import Caller
from pagekeeper.v1 import page_table_service_pb2 as table_pb
from pagekeeper.v1 import working_set_service_pb2 as working_pb


class PageTablePort(Protocol):
    async def lookup(self, caller: Caller, request: table_pb.LookupRequest) -> table_pb.LookupResponse: ...
    async def add_representations(
        self, caller: Caller, request: table_pb.AddRepresentationsRequest
    ) -> table_pb.AddRepresentationsResponse: ...


class WorkingSetPort(Protocol):
    async def admit(self, caller: Caller, request: working_pb.AdmitRequest) -> working_pb.AdmitResponse: ...

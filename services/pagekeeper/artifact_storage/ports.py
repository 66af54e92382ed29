"""The methods of page-table that artifact-storage calls; the service and its remote proxy both have them."""

from typing import Protocol

from pagekeeper.runtime.identity import Caller
from pagekeeper.v1 import page_table_service_pb2 as table_pb


class PlacementsPort(Protocol):
    async def place_pages(self, caller: Caller, request: table_pb.PlacePagesRequest) -> table_pb.PlacePagesResponse: ...

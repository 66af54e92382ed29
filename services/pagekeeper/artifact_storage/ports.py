"""What artifact-storage asks of page-table, which satisfies it, and so does its remote twin."""

from typing import Protocol

from pagekeeper.runtime.identity import Caller
from pagekeeper.v1 import page_table_service_pb2 as table_pb


class PlacementsPort(Protocol):
    async def place_pages(self, caller: Caller, request: table_pb.PlacePagesRequest) -> table_pb.PlacePagesResponse: ...

"""Settings of a fault-handler process."""

from pydantic import Field

from pagekeeper.runtime.settings import Address, InternalKeySettings, ListenSettings, LogSettings, SummariserSettings


class FaultHandlerSettings(ListenSettings, InternalKeySettings, LogSettings, SummariserSettings):
    """Read from the environment by `load`."""

    page_table: Address = Field(description="the page-table service: host:port, such as page-table:7400")
    working_set: Address = Field(description="the working-set service: host:port, such as working-set:7400")
    artifact_storage: Address = Field(
        description="the artifact-storage service: host:port, such as artifact-storage:7400"
    )

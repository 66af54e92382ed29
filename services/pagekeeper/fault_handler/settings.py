"""Settings of a fault-handler process."""

from pydantic import Field

from pagekeeper.runtime.settings import (
    SEVERAL,
    Addresses,
    InternalKeySettings,
    ListenSettings,
    LogSettings,
    SummariserSettings,
)


class FaultHandlerSettings(ListenSettings, InternalKeySettings, LogSettings, SummariserSettings):
    """Read from the environment by `load`."""

    page_table: Addresses = Field(description=f"the page-table service: {SEVERAL}, such as page-table:7400")
    working_set: Addresses = Field(description=f"the working-set service: {SEVERAL}, such as working-set:7400")
    artifact_storage: Addresses = Field(
        description=f"the artifact-storage service: {SEVERAL}, such as artifact-storage:7400"
    )

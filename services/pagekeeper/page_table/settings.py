"""Settings of a page-table process."""

from pydantic import Field

from pagekeeper.runtime.settings import (
    SEVERAL,
    Addresses,
    InternalKeySettings,
    ListenSettings,
    LogSettings,
    RecallSettings,
)


class PageTableSettings(ListenSettings, InternalKeySettings, LogSettings, RecallSettings):
    """Read from the environment by `load`."""

    artifact_storage: Addresses = Field(
        description=f"the artifact-storage service: {SEVERAL}, such as artifact-storage:7400"
    )

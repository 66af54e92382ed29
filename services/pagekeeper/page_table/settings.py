"""Settings of a page-table process."""

from pydantic import Field

from pagekeeper.runtime.settings import Address, InternalKeySettings, ListenSettings, LogSettings, RecallSettings


class PageTableSettings(ListenSettings, InternalKeySettings, LogSettings, RecallSettings):
    """Read from the environment by `load`."""

    artifact_storage: Address = Field(
        description="the artifact-storage service: host:port, such as artifact-storage:7400"
    )

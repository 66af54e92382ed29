"""Settings of an artifact-storage process."""

from pydantic import Field

from pagekeeper.runtime.settings import Address, InternalKeySettings, ListenSettings, LogSettings, StoreSettings


class ArtifactStorageSettings(ListenSettings, InternalKeySettings, LogSettings, StoreSettings):
    """Read from the environment by `load`."""

    page_table: Address = Field(description="the page-table service: host:port, such as page-table:7400")

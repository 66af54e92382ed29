"""Settings of a working-set process."""

from pydantic import Field

from pagekeeper.runtime.settings import Address, InternalKeySettings, ListenSettings, LogSettings


class WorkingSetSettings(ListenSettings, InternalKeySettings, LogSettings):
    """Read from the environment by `load`."""

    artifact_storage: Address = Field(
        description="the artifact-storage service: host:port, such as artifact-storage:7400"
    )

"""Settings of a working-set process."""

from pydantic import Field

from pagekeeper.runtime.settings import SEVERAL, Addresses, InternalKeySettings, ListenSettings, LogSettings


class WorkingSetSettings(ListenSettings, InternalKeySettings, LogSettings):
    """Read from the environment by `load`."""

    artifact_storage: Addresses = Field(
        description=f"the artifact-storage service: {SEVERAL}, such as artifact-storage:7400"
    )

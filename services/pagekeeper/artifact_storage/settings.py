"""Settings of an artifact-storage process."""

from pagekeeper.runtime.settings import InternalKeySettings, ListenSettings, StoreSettings


class ArtifactStorageSettings(ListenSettings, InternalKeySettings, StoreSettings):
    """Read from the environment by `load`."""

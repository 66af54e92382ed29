"""Settings of a gateway process."""

from pydantic import Field

from pagekeeper.runtime.settings import SEVERAL, Addresses, InternalKeySettings, ListenSettings, TokenSettings


class GatewaySettings(ListenSettings, InternalKeySettings, TokenSettings):
    """Read from the environment by `load`."""

    page_table: Addresses = Field(description=f"the page-table service: {SEVERAL}, such as page-table:7400")
    working_set: Addresses = Field(description=f"the working-set service: {SEVERAL}, such as working-set:7400")
    fault_handler: Addresses = Field(description=f"the fault-handler service: {SEVERAL}, such as fault-handler:7400")
    artifact_storage: Addresses = Field(
        description=f"the artifact-storage service: {SEVERAL}, such as artifact-storage:7400"
    )

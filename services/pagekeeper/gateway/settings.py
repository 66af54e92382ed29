"""Settings of a gateway process."""

from pydantic import Field

from pagekeeper.runtime.settings import Address, InternalKeySettings, ListenSettings, TokenSettings


class GatewaySettings(ListenSettings, InternalKeySettings, TokenSettings):
    """Read from the environment by `load`."""

    page_table: Address = Field(description="the page-table service: host:port, such as page-table:7400")
    working_set: Address = Field(description="the working-set service: host:port, such as working-set:7400")
    fault_handler: Address = Field(description="the fault-handler service: host:port, such as fault-handler:7400")
    artifact_storage: Address = Field(
        description="the artifact-storage service: host:port, such as artifact-storage:7400"
    )

"""Settings of a process, from environment variables that begin with PK_.

A service's settings are a class that inherits the groups that the service needs from this module and adds at most eight
fields of its own. `load` reads the settings once, at the start. A missing or wrong setting stops the start with one
line that names the variable and a right value.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from pagekeeper.runtime.bearer_tokens import PUBLIC_AUDIENCE
from pagekeeper.runtime.errors import CannotStart
from pagekeeper.runtime.log.subjects import PARTITIONS_MAX
from pagekeeper.runtime.rpc.addresses import split

PREFIX: Final = "PK_"
INDEX_BYTES_MAX: Final = 512 * 1024**2
"""What the search indexes of a process may take together, unless it is told otherwise."""
_ADDRESS: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}")


def _address(value: str) -> str:
    if _ADDRESS.fullmatch(value) is None:
        raise ValueError("not host:port")
    return value


REPLICAS: Final = (1, 3, 5)
"""An even number of servers survives no more failures than one server fewer."""

Address = Annotated[str, AfterValidator(_address)]
"""`host:port`; an IPv6 host stands in brackets."""


def _addresses(value: str) -> str:
    split(value)
    return value


SEVERAL: Final = "host:port, or several with commas between"
Addresses = Annotated[str, AfterValidator(_addresses)]
"""The replicas of a service: `host:port`, several with commas between. A name stands for all addresses that it has."""


class Settings(BaseSettings):
    """Settings of every process."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="ignore")

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error; calls that went well are logged at info"
    )


class ListenSettings(Settings):
    """Settings of a process that serves RPCs."""

    listen: Address = Field(description="where to take calls: host:port, such as 0.0.0.0:7400")
    connection_seconds: int = Field(
        default=300,
        ge=1,
        le=86_400,
        description="1 to 86400: how long a caller's connection lives before it has to connect again",
    )
    tls_certificate: Path | None = Field(
        default=None,
        description="the file with this server's certificate and chain, in PEM; without it there is no TLS",
    )
    tls_key: Path | None = Field(default=None, description="the file with the key of that certificate, in PEM")
    tls_ca: Path | None = Field(
        default=None, description="the file with the authorities of other services' certificates, in PEM"
    )
    reflection: bool = Field(
        default=False, description="true for development: then gRPC reflection tells anybody the API; false"
    )


class InternalKeySettings(Settings):
    """Settings of a process that calls services or is called by services."""

    internal_key: Path = Field(description="the file with the secret that all services share, of 32 bytes or more")


class TokenSettings(Settings):
    """Settings of a process that takes public calls."""

    token_key: Path = Field(
        description="the file that callers' tokens are verified with: a PEM public key, JWKS or secret"
    )
    token_audience: str = Field(default=PUBLIC_AUDIENCE, description="the audience that callers' tokens must have")


class LogSettings(Settings):
    """Settings of a process that reads or appends to the log."""

    nats_url: SecretStr = Field(
        description="the NATS servers, such as nats://user:password@127.0.0.1:4222, or tls://; commas between several"
    )
    log_partitions: int = Field(
        default=4,
        ge=1,
        le=PARTITIONS_MAX,
        description=f"1 to {PARTITIONS_MAX}: how the log was divided at its installation",
    )
    nats_ca: Path | None = Field(
        default=None, description="the file with the authorities of the NATS servers' certificates, in PEM"
    )


def _replicas(value: int) -> int:
    if value not in REPLICAS:
        raise ValueError(f"not one of {REPLICAS}")
    return value


class InitSettings(LogSettings):
    """Settings of the command that makes the log's streams. What a stream has already is never lowered."""

    log_replicas: Annotated[int, AfterValidator(_replicas)] = Field(
        default=1, description="1, 3 or 5: servers that keep each append; 3 on a cluster"
    )
    log_bytes_max: int = Field(
        default=2 * 1024**3, ge=1024**2, description="bytes that each partition may hold, 1 MiB or more"
    )
    work_bytes_max: int = Field(
        default=1024**3, ge=1024**2, description="bytes of background work that may wait, 1 MiB or more"
    )


class StoreSettings(Settings):
    """Settings of a process that reads or writes objects."""

    s3_endpoint: Address = Field(description="the object store: host:port, such as 127.0.0.1:9000")
    s3_access_key: str = Field(description="the object store's access key")
    s3_secret_key: SecretStr = Field(description="the object store's secret key")
    s3_bucket: str = Field(
        default="pagekeeper-hot", min_length=3, max_length=63, description="a bucket, of 3 to 63 characters"
    )
    s3_secure: bool = Field(default=False, description="true for TLS, false without")
    s3_ca: Path | None = Field(
        default=None, description="the file with the authorities of the object store's certificate, in PEM"
    )


class RecallSettings(Settings):
    """Settings of a process that searches sessions."""

    embedder: Literal["static", "none"] = Field(
        default="static", description="static or none: whether what words mean counts in recall, beside the words"
    )
    index_bytes_max: int = Field(
        default=INDEX_BYTES_MAX,
        ge=1024**2,
        description="bytes of memory that the search indexes of sessions may take together, 1 MiB or more",
    )


class SummariserSettings(Settings):
    """Settings of a process that makes lower levels of pages."""

    summariser_url: str = Field(
        default="", description="an OpenAI-compatible endpoint that shortens pages, such as http://127.0.0.1:8080/v1"
    )
    summariser_model: str = Field(default="", description="the model that the summariser's endpoint is asked for")
    summariser_sees: bool = Field(
        default=False, description="whether that model takes pictures; then it describes what previews of media show"
    )
    summariser_key: SecretStr = Field(default=SecretStr(""), description="the key of the summariser's endpoint")
    transcriber_url: str = Field(
        default="",
        description="an OpenAI-compatible endpoint that transcribes recordings, such as http://127.0.0.1:8081/v1",
    )
    transcriber_model: str = Field(default="", description="the model that the transcriber's endpoint is asked for")
    transcriber_key: SecretStr = Field(default=SecretStr(""), description="the key of the transcriber's endpoint")


S = TypeVar("S", bound=Settings)


def load(kind: type[S], environment: Mapping[str, str] | None = None) -> S:
    """Read settings of `kind` from `environment`, else from that of this process.

    Raises CannotStart, which names every variable that is wrong.
    """
    try:
        if environment is None:
            return kind()
        variables = {name: environment.get(PREFIX + name.upper(), "") for name in kind.model_fields}
        return kind.model_validate({name: value for name, value in variables.items() if value})
    except ValidationError as error:
        problems = "; ".join(
            _problem(kind, detail) for detail in error.errors(include_url=False, include_context=False)
        )
        raise CannotStart(problems) from None


def _problem(kind: type[Settings], detail: ErrorDetails) -> str:
    name = str(detail["loc"][0])
    variable = PREFIX + name.upper()
    field = kind.model_fields[name]
    if detail["type"] == "missing":
        return f"{variable} is not set: it is {field.description}"
    if field.annotation is SecretStr:
        return f"{variable} is not right: it is {field.description}"
    return f"{variable} is {detail['input']!r}: it is {field.description}"

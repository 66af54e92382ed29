"""Names on the server: the stream and the subject of a session.

A session is the subject `pk.log.<partition>.<tenant>.<session>` of the stream `PK_LOG_<partition>`. A writer computes
the partition; the server only sees a literal token. Ids are checked and written as tokens (`pagekeeper.core.ids`), so
no caller can reach another tenant's subjects with `*`, `>` or a dot.
"""

from hashlib import blake2b
from typing import Final

from pagekeeper.core.ids import SessionId, SessionKey, TenantId, check_id, check_tenant, id_of_token, token_of

LOG_PREFIX: Final = "pk.log"
FEED_PREFIX: Final = "pk.feed"
WORK_PREFIX: Final = "pk.work"
DEAD_PREFIX: Final = "pk.dead"

WORK_STREAM: Final = "PK_WORK"
DEAD_STREAM: Final = "PK_DEAD"

PARTITIONS_MAX: Final = 256
"""Each is a stream, with its files and its share of the servers' memory."""


def partition_of(key: SessionKey, partitions: int) -> int:
    """The partition of a session among `partitions`. Never changes: sessions could not be found again if it did.

    The partition is BLAKE2b-64(`tenant/session`), read big-endian, modulo the number of partitions. `/` is in no
    tenant's id, so different keys hash different texts.
    """
    digest = blake2b(f"{key.tenant}/{key.session}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % partitions


def log_stream(partition: int) -> str:
    return f"PK_LOG_{partition}"


def session_token(key: SessionKey) -> str:
    """`<tenant>.<session>`, checked. Errors: InvalidField."""
    return f"{check_tenant('tenant', key.tenant)}.{token_of(check_id('session_id', key.session))}"


def log_subject(key: SessionKey, partition: int) -> str:
    """Where a session's records are. Errors: InvalidField."""
    return f"{LOG_PREFIX}.{partition}.{session_token(key)}"


def feed_subject(key: SessionKey, partition: int) -> str:
    """Where a session's notices are. Errors: InvalidField."""
    return f"{FEED_PREFIX}.{partition}.{session_token(key)}"


def tenant_filter(tenant: TenantId, partition: int) -> str:
    """All sessions of a tenant in a partition. Errors: InvalidField."""
    return f"{LOG_PREFIX}.{partition}.{check_tenant('tenant', tenant)}.*"


def split_subject(subject: str) -> tuple[int, SessionKey]:
    """Partition and session of a subject that `log_subject` made, or of its copy in the feed."""
    _, _, partition, tenant, session = subject.split(".")
    return int(partition), SessionKey(TenantId(tenant), SessionId(id_of_token(session)))

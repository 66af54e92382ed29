"""Callers: `Identity` is the content of a verified token, `Caller` names for whom a service method acts.

Invariant: the `TenantId` that a service acts on comes from a token whose signature, audience and lifetime
`bearer_tokens` has checked, or from a work item that such a caller left behind. Nothing in a request names a tenant.
"""

from dataclasses import dataclass

from pagekeeper.core.ids import TenantId


@dataclass(frozen=True, slots=True)
class Identity:
    """The content of a verified token."""

    tenant: TenantId
    subject: str


@dataclass(frozen=True, slots=True)
class Caller:
    """For whom, until when and under which trace something is done: the first argument of every service method.

    `deadline` is in seconds of `Clock.monotonic`, None when the caller is willing to wait for ever.
    """

    tenant: TenantId
    subject: str
    deadline: float | None
    trace: str

    def with_deadline(self, deadline: float | None) -> "Caller":
        """Return the same caller with another deadline: a load that others share must not inherit the first one's."""
        return Caller(self.tenant, self.subject, deadline, self.trace)

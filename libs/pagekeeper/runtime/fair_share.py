"""A fair share of something scarce: places for calls, processes of a pool.

A tenant has at most `per_tenant` places, all tenants together have at most `total`. Whoever finds no place waits in
their tenant's line. A place that becomes free goes to the line whose turn it is: the lines take turns, one place each,
so a tenant that waits with a thousand calls delays another tenant by one of them.

Guarantees:
- A line has at most `waiting_per_tenant` entries, all lines together have at most `waiting_total`, and nobody waits
  longer than `wait_seconds`. Beyond that TooManyRequests is raised: at once when the line is full, and at the end of
  the time.
- A tenant that holds `held_bytes` gets no further place until some of them have left, and what would make it hold twice
  as much is refused.
- Nobody waits while there is a place that they may have.
- A waiter that is cancelled leaves its line, and gives back a place that it was given meanwhile.
- A tenant that has neither places nor waiters takes no memory.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final

from pagekeeper.core.errors import TooManyRequests

NO_LIMIT: Final = 2**63


@dataclass(frozen=True, slots=True)
class ShareLimits:
    """How many places there are, and who may wait for one. `what` names a place in refusals, such as "calls"."""

    what: str
    total: int
    per_tenant: int
    waiting_per_tenant: int
    wait_seconds: float
    waiting_total: int = NO_LIMIT
    held_bytes: int = NO_LIMIT


class _Share:
    """Places, bytes and waiters of one tenant."""

    __slots__ = ("held_bytes", "places", "waiters")

    def __init__(self) -> None:
        self.places = 0
        self.held_bytes = 0
        self.waiters: deque[asyncio.Future[None]] = deque()


class FairShare:
    """Places for tenants, in one event loop."""

    def __init__(self, limits: ShareLimits) -> None:
        self._limits = limits
        self._shares: dict[str, _Share] = {}
        self._turns: deque[str] = deque()
        """Tenants that wait, the one whose turn it is first."""
        self._waiting = 0
        self.taken = 0

    def __len__(self) -> int:
        """Number of tenants that have a place or wait for one."""
        return len(self._shares)

    def held_bytes(self, tenant: str) -> int:
        """Bytes that the tenant holds."""
        share = self._shares.get(tenant)
        return share.held_bytes if share is not None else 0

    def take(self, tenant: str) -> bool:
        """Take a place at once; false when the tenant has to wait for one."""
        share = self._shares.get(tenant)
        if share is None:
            if self.taken >= self._limits.total:
                return False
            share = self._shares[tenant] = _Share()
        elif share.waiters or not self._has_room(share):
            return False
        share.places += 1
        self.taken += 1
        return True

    async def wait(self, tenant: str) -> None:
        """Take a place, when the tenant's turn comes. Raises TooManyRequests."""
        if self.take(tenant):
            return
        limits = self._limits
        share = self._shares.get(tenant) or _Share()
        if len(share.waiters) >= limits.waiting_per_tenant or self._waiting >= limits.waiting_total:
            raise self._refusal(share)
        self._shares[tenant] = share
        granted = asyncio.get_running_loop().create_future()
        if not share.waiters:
            self._turns.append(tenant)
        share.waiters.append(granted)
        self._waiting += 1
        try:
            async with asyncio.timeout(limits.wait_seconds):
                await granted
        except TimeoutError:
            refusal = self._refusal(share)
            self._give_up(tenant, share, granted)
            raise refusal from None
        except asyncio.CancelledError:
            self._give_up(tenant, share, granted)
            raise
        finally:
            self._waiting -= 1

    def hold(self, tenant: str, size_bytes: int) -> None:
        """Count bytes that are held for the tenant, who has a place. Raises TooManyRequests where others are held."""
        share = self._shares[tenant]
        if share.held_bytes and share.held_bytes + size_bytes > 2 * self._limits.held_bytes:
            raise self._refusal(share)
        share.held_bytes += size_bytes

    def leave(self, tenant: str, held_bytes: int = 0) -> None:
        """Give a place back, with what was held on its account."""
        share = self._shares[tenant]
        share.places -= 1
        share.held_bytes -= held_bytes
        self.taken -= 1
        if self._turns:
            self._grant()
        if not share.places and not share.waiters:
            self._shares.pop(tenant, None)

    def _grant(self) -> None:
        """Give the free places to those whose turn it is."""
        passed_over = 0
        while passed_over < len(self._turns) and self.taken < self._limits.total:
            tenant = self._turns.popleft()
            share = self._shares[tenant]
            if self._has_room(share):
                passed_over = 0
                granted = share.waiters.popleft()
                if not granted.done():  # else its caller has been cancelled, and is about to notice
                    share.places += 1
                    self.taken += 1
                    granted.set_result(None)
            else:
                passed_over += 1
            if share.waiters:
                self._turns.append(tenant)

    def _has_room(self, share: _Share) -> bool:
        limits = self._limits
        return self.taken < limits.total and share.places < limits.per_tenant and share.held_bytes < limits.held_bytes

    def _give_up(self, tenant: str, share: _Share, granted: "asyncio.Future[None]") -> None:
        if not granted.cancelled():
            self.leave(tenant)
            return
        if granted in share.waiters:
            share.waiters.remove(granted)
            if not share.waiters:
                self._turns.remove(tenant)
        if not share.places and not share.waiters:
            self._shares.pop(tenant, None)

    def _refusal(self, share: _Share) -> TooManyRequests:
        limits = self._limits
        if share.held_bytes >= limits.held_bytes:
            return TooManyRequests(
                f"this replica holds {share.held_bytes:,} bytes of one tenant's requests and unread answers; read them",
                limit_bytes=str(limits.held_bytes),
            )
        if share.places >= limits.per_tenant:
            return TooManyRequests(
                f"this replica serves {limits.per_tenant} {limits.what} of one tenant at a time",
                limit=str(limits.per_tenant),
            )
        return TooManyRequests(f"this replica serves {limits.total} {limits.what} at a time", limit=str(limits.total))

"""The log in memory and the real one give the same answers to the same random history."""

import random
from dataclasses import dataclass, field

import pytest

from pagekeeper.core.ids import SessionKey, TenantId, session_key
from pagekeeper.runtime.log.connection import Connection
from pagekeeper.runtime.log.nats_log import NatsLog
from pagekeeper.runtime.log.port import AppendConflict, SessionLog
from tests.fakes.memory_log import MemoryLog

STEPS = 120
SESSIONS = 3


@dataclass
class Player:
    """Plays a history on one log, and tells revisions as places in it, since the numbers themselves are the log's."""

    log: SessionLog
    places: dict[SessionKey, list[int]] = field(default_factory=dict)

    def revision(self, key: SessionKey, place: int) -> int:
        return self.places.get(key, [])[place - 1] if place else 0

    def place(self, key: SessionKey, revision: int) -> int:
        return self.places[key].index(revision) + 1 if revision else 0

    async def write(self, key: SessionKey, expected: int, operation_id: str, *, rollup: bool) -> str:
        expected_revision = self.revision(key, expected)
        data = operation_id.encode()
        try:
            if rollup:
                revision = await self.log.rollup(
                    key, expected_revision=expected_revision, operation_id=operation_id, data=data
                )
            else:
                revision = await self.log.append(
                    key, expected_revision=expected_revision, operation_id=operation_id, data=data
                )
        except AppendConflict as conflict:
            return f"conflict at {self.place(key, conflict.actual)}, hidden: {conflict.maybe_applied}"
        known = self.places.setdefault(key, [])
        if revision not in known:
            known.append(revision)
        return f"at {self.place(key, revision)}"

    async def read(self, key: SessionKey, after: int) -> str:
        records = await self.log.read(key, after_revision=self.revision(key, after), strict=True)
        return str([(self.place(key, r.revision), r.operation_id, r.data, r.rollup) for r in records])


async def play(player: Player, keys: list[SessionKey], seed: int) -> list[str]:
    draw = random.Random(seed)
    told: list[str] = []
    for number in range(STEPS):
        key = draw.choice(keys)
        length = len(player.places.get(key, []))
        place = draw.randint(0, length)
        # Mostly at the end of the log, sometimes behind it; mostly a new operation, sometimes an earlier one.
        expected = length if draw.random() < 0.6 else place
        operation_id = f"op{number if draw.random() < 0.8 else draw.randint(0, number)}"
        match draw.randint(0, 8):
            case 0 | 1:
                told.append(await player.read(key, place))
            case 2:
                told.append(await player.write(key, expected, operation_id, rollup=True))
            case _:
                told.append(await player.write(key, expected, operation_id, rollup=False))
    sessions = await player.log.sessions(TenantId(keys[0].tenant), after="", limit=10)
    return [*told, *sessions]


@pytest.mark.parametrize("seed", range(8))
async def test_the_same_history_gets_the_same_answers(nats: Connection, tenant: str, seed: int) -> None:
    keys = [session_key(tenant, f"s{number}") for number in range(SESSIONS)]
    in_memory = await play(Player(MemoryLog(partitions=4)), keys, seed)
    assert await play(Player(NatsLog(nats, partitions=4)), keys, seed) == in_memory

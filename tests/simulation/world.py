"""Replicas of the whole platform over one log, one queue and one bucket, and what befalls them."""

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random
from typing import Any, Final

from pagekeeper.app.compose import Platform, compose
from pagekeeper.app.descriptors import MEMORY
from pagekeeper.artifact_storage import main as artifact_storage
from pagekeeper.core.compress.registry import CompressorRegistry
from pagekeeper.core.embedding import WordsAlone
from pagekeeper.core.ids import SessionKey
from pagekeeper.fault_handler.compression_runner import InlineCompressor
from pagekeeper.fault_handler.summarising import NoSummariser
from pagekeeper.runtime.artifacts import ArtifactBlobReader
from pagekeeper.runtime.background import Background
from pagekeeper.runtime.blobs.store import BlobStore
from pagekeeper.runtime.pool import InlinePool
from pagekeeper.runtime.queue.port import Retries
from pagekeeper.runtime.rpc.local import local
from pagekeeper.runtime.rpc.rendezvous import home_of, salt_of
from pagekeeper.runtime.tokens import EncodingName, tokenizer
from tests.fakes.faulty_bucket import Faults as BucketFaults
from tests.fakes.faulty_bucket import FaultyBucket
from tests.fakes.faulty_log import Faults as LogFaults
from tests.fakes.memory_bucket import MemoryBucket
from tests.simulation.loop import Process, SimulatedLoop
from tests.simulation.network import Faults as NetworkFaults
from tests.simulation.network import QueueServer, ReplicaLog, ReplicaQueue
from tests.simulation.oracle import OracleLog
from tests.simulation.violations import Violation

START_MS: Final = 1_800_000_000_000
SKEW_MS_MAX: Final = 5_000
INDEX_BYTES_MAX = 200_000
"""One index or two: a replica makes some anew all the time."""
COMPRESSION_RUNNER: Final = InlineCompressor(CompressorRegistry.default(), tokenizer(EncodingName.O200K_BASE).count)
RETRIES: Final = Retries(deliveries_max=40, seconds_max=30.0)
"""More than the platform's own, since here a worker dies every few seconds."""


REPLICAS_MAX: Final = 5
PAUSES_SECONDS: Final = (0.5, 3.0, 20.0, 45.0)


@dataclass(frozen=True, slots=True)
class Weather:
    """How bad it is out there."""

    log: LogFaults = field(default_factory=LogFaults)
    bucket: BucketFaults = field(default_factory=BucketFaults)
    network: NetworkFaults = field(default_factory=NetworkFaults)


FINE: Final = Weather()


def some_weather(dice: Random) -> Weather:
    """From fine to awful."""

    def up_to(most: float) -> float:
        return dice.choice((0.0, most / 4, most)) * dice.random()

    return Weather(
        LogFaults(
            request_lost=up_to(0.15),
            request_late=up_to(0.15),
            request_repeated=up_to(0.2),
            answer_lost=up_to(0.2),
            read_lost=up_to(0.15),
            read_stale=up_to(0.5),
            delay_seconds_max=dice.choice((0.0, 0.01, 0.2, 1.0)),
        ),
        BucketFaults(
            refused=up_to(0.3),
            lost=up_to(0.2),
            stuck=up_to(0.05),
            slow=up_to(0.3),
            cut=up_to(0.2),
            wrong=up_to(0.2),
        ),
        NetworkFaults(
            feed_cut=up_to(0.2),
            feed_refused=up_to(0.5),
            notice_lost=up_to(0.3),
            interest_lost=up_to(0.3),
            publish_lost=up_to(0.3),
            publish_unanswered=up_to(0.2),
            done_unheard=up_to(0.2),
            handed_out_twice=up_to(0.3),
        ),
    )


class SkewedClock:
    """A machine's clock: as fast as all others, and not quite on time."""

    def __init__(self, loop: SimulatedLoop, skew_ms: int) -> None:
        self._loop = loop
        self._skew_ms = skew_ms

    def now_ms(self) -> int:
        return START_MS + self._skew_ms + round(self._loop.time() * 1_000)

    def monotonic(self) -> float:
        return self._loop.time()


class Replica:
    """A process that serves everything, with its own way to the stores."""

    def __init__(self, world: "World", name: str, dice: Random) -> None:
        self.name = name
        self.process = Process(name)
        self.died: asyncio.Future[None] = world.loop.create_future()
        self.log = ReplicaLog(world.log, dice)
        self.queue = ReplicaQueue(world.queue, self.process, self.died, dice)
        self.bucket = FaultyBucket(world.bucket, dice, BucketFaults())
        self.clock = SkewedClock(world.loop, dice.randint(-SKEW_MS_MAX, SKEW_MS_MAX))
        storage = artifact_storage.compose(BlobStore(self.bucket, dice), world.new_object_id)
        self.blobs = ArtifactBlobReader(storage)
        self.platform: Platform = compose(
            self.log,
            self.queue,
            storage,
            WordsAlone(),
            COMPRESSION_RUNNER,
            NoSummariser(),
            self.clock,
            InlinePool(),
            INDEX_BYTES_MAX,
        )
        self.api: Any = local(MEMORY, self.platform.gateway)
        self.background = world.loop.create_task(self._work(dice), context=self.process.context)

    def under(self, weather: Weather) -> None:
        self.log.faults = weather.log
        self.log.network = self.queue.faults = weather.network
        self.bucket.faults = weather.bucket

    async def _work(self, dice: Random) -> None:
        async with Background(self.clock, dice) as background:
            self.platform.start(background)
            await asyncio.Event().wait()


class World:
    def __init__(self, loop: SimulatedLoop, dice: Random, replicas: int) -> None:
        self.loop = loop
        self.dice = dice
        self.trace: list[str] = []
        self._object_ids = Random(dice.getrandbits(64))
        self.bucket = MemoryBucket(SkewedClock(loop, 0))
        self.log = OracleLog(self.bucket)
        self.acknowledged: dict[SessionKey, int] = {}
        self.told: dict[SessionKey, list[tuple[float, int]]] = {}
        """When each revision was acknowledged."""
        self.affinity = dice.choice((0.0, 0.5, 0.9, 1.0))
        """The chance that a call goes to its session's home, which changes when replicas come and go."""
        self.queue = QueueServer(RETRIES, copy_context())
        self.weather = FINE
        self.replicas: list[Replica] = []
        self._wanted = replicas
        self._started = 0

    async def open(self) -> None:
        await self.bucket.ensure(timeout_seconds=1)
        for _ in range(self._wanted):
            self.start()

    def new_object_id(self) -> str:
        return f"{self._object_ids.getrandbits(128):032x}"

    def replica_for(self, key: SessionKey, dice: Random) -> Replica:
        """Where a call about a session arrives."""
        if dice.random() < self.affinity:
            return home_of(f"{key.tenant}/{key.session}", self.replicas, lambda replica: salt_of(replica.name))
        return dice.choice(self.replicas)

    def acknowledge(self, key: SessionKey, revision: int) -> None:
        """A client was told of a revision."""
        if revision > self.acknowledged.get(key, 0):
            self.acknowledged[key] = revision
            self.told.setdefault(key, []).append((self.loop.time(), revision))

    def acknowledged_before(self, key: SessionKey, seconds: float) -> int:
        """The newest revision that was acknowledged at least so long ago."""
        until = self.loop.time() - seconds
        return max((revision for at, revision in self.told.get(key, ()) if at <= until), default=0)

    def note(self, what: str) -> None:
        self.trace.append(f"{self.loop.time():9.3f} {what}")

    def start(self) -> Replica:
        self._started += 1
        replica = Replica(self, f"r{self._started}", Random(self.dice.getrandbits(64)))
        replica.under(self.weather)
        self.replicas.append(replica)
        self.note(f"{replica.name} starts")
        return replica

    def crash(self, replica: Replica) -> None:
        """It never runs another step, not even to clean up."""
        self.note(f"{replica.name} crashes")
        self.replicas.remove(replica)
        if not replica.process.held:
            self.loop.hold(replica.process)
        replica.died.set_result(None)
        replica.queue.disconnect()

    def pause(self, replica: Replica) -> None:
        self.note(f"{replica.name} stands still")
        self.loop.hold(replica.process)

    def resume(self, replica: Replica) -> None:
        self.note(f"{replica.name} goes on")
        self.loop.let_go(replica.process)

    def change_weather(self, weather: Weather) -> None:
        self.weather = weather
        for replica in self.replicas:
            replica.under(weather)

    def check(self) -> None:
        """Raise what the oracle saw, and what ended a replica's own work."""
        if self.log.violations:
            raise self.log.violations[0]
        for replica in self.replicas:
            if replica.background.done():
                raise Violation(f"{replica.name}: its own work ended: {replica.background.exception()!r}")

    def digest(self) -> str:
        """Of all that happened: what was done and told, and what every session became."""
        digest = sha256("\n".join(self.trace).encode())
        for key in sorted(self.log.truths, key=lambda key: (key.tenant, key.session)):
            truth = self.log.truths[key]
            digest.update(f"{key} {truth.operations} {truth.facts}".encode())
        digest.update(str(self.loop.steps).encode())
        return digest.hexdigest()


async def chaos(world: World, until: Callable[[], bool]) -> None:
    """Crash, pause, start and change the weather, until told to end; then everything is well again."""
    dice = Random(world.dice.getrandbits(64))
    paused: list[tuple[float, Replica]] = []
    eventful = dice.choice((0.0, 0.3, 0.7, 1.0))
    while not until():
        await asyncio.sleep(dice.uniform(0.2, 3.0))
        _resume(world, [one for one in paused if one[0] <= world.loop.time()], paused)
        if dice.random() < eventful:
            await _happen(world, dice, paused)
    world.note("all is well again")
    world.change_weather(FINE)
    _resume(world, list(paused), paused)


async def _happen(world: World, dice: Random, paused: list[tuple[float, Replica]]) -> None:
    match dice.choice(("weather", "crash", "pause", "start")):
        case "weather":
            world.change_weather(some_weather(dice))
        case "crash":
            world.crash(dice.choice(world.replicas))
            await asyncio.sleep(dice.uniform(0.0, 2.0))
            world.start()
        case "pause":
            running = [replica for replica in world.replicas if not replica.process.held]
            if len(running) > 1:
                replica = dice.choice(running)
                world.pause(replica)
                seconds = dice.choice(PAUSES_SECONDS) * dice.random()
                paused.append((world.loop.time() + seconds, replica))
        case _:
            if len(world.replicas) < REPLICAS_MAX:
                world.start()


def _resume(world: World, due: list[tuple[float, Replica]], paused: list[tuple[float, Replica]]) -> None:
    for one in due:
        paused.remove(one)
        if one[1] in world.replicas:  # it may have crashed meanwhile
            world.resume(one[1])

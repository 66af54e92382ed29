"""The work queue on JetStream: one work-queue stream and one durable consumer per kind, never one per tenant.

Each worker asks for one item at a time (`batch: 1`), on its own permanent inbox. nats-py's `fetch` makes a new inbox
for every call: an item that the server sends to an old inbox is lost until its next delivery, and after a timeout or a
restart of the server the next `fetch` may wait for nothing. A worker of this module handles an item whichever request
the item answers.

The server delivers without limit, and this module counts deliveries: at a limit of its own, a server would stop
delivering an item and leave it in the stream. An item that kills its worker every time also ends as a dead letter.
"""

import asyncio
import json
import logging
from collections import deque
from typing import Final

from nats.aio.msg import Msg

from pagekeeper.core.ids import SessionId, SessionKey, TenantId
from pagekeeper.runtime.log.client import status_of
from pagekeeper.runtime.log.connection import Connection, Subscription, Unreachable, now
from pagekeeper.runtime.log.jetstream import (
    PATIENCE_SECONDS,
    Attempts,
    Refused,
    Stored,
    ask,
    check_answer,
    is_full,
    read_batch,
)
from pagekeeper.runtime.log.subjects import (
    DEAD_PREFIX,
    DEAD_STREAM,
    WORK_PREFIX,
    WORK_STREAM,
    partition_of,
    session_token,
)
from pagekeeper.runtime.queue.handling import run
from pagekeeper.runtime.queue.port import (
    LIST_TIMEOUT_SECONDS,
    PUBLISH_TIMEOUT_SECONDS,
    DeadLetter,
    Handler,
    QueueFull,
    QueueUnavailable,
    Retries,
    WorkItem,
    check_item,
    check_kind,
    check_limit,
    error_text,
)

PULL_SECONDS: Final = 30.0
HEARTBEAT_SECONDS: Final = 5.0
SILENCE_SECONDS_MAX: Final = 2.5 * HEARTBEAT_SECONDS
STEP_TIMEOUT_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 0.5
DELIVERED_UNACKNOWLEDGED_MAX: Final = 10_000
WORKERS_WAITING_MAX: Final = 4_096
"""Over all replicas; the server's default of 512 is few."""

_TENANT: Final = "Pk-Tenant"
_SESSION: Final = "Pk-Session"
_WORK: Final = "Pk-Work"
_DELIVERIES: Final = "Pk-Deliveries"
_ERROR: Final = "Pk-Error"
_MESSAGE_ID: Final = "Nats-Msg-Id"

_HEARTBEAT: Final = "100"
_EXPIRED: Final = "408"
_ACK: Final = b"+ACK"
_GIVE_BACK: Final = b"-NAK"
_STILL_AT_IT: Final = b"+WPI"
_GIVE_UP: Final = b"+TERM"
_NANOSECONDS: Final = 1_000_000_000
_ONE_ITEM: Final = json.dumps(
    {"batch": 1, "expires": int(PULL_SECONDS * _NANOSECONDS), "idle_heartbeat": int(HEARTBEAT_SECONDS * _NANOSECONDS)}
).encode()

_log = logging.getLogger(__name__)


class NatsQueue:
    """Items of all kinds, in the streams that `make_streams` made for `partitions`."""

    def __init__(self, connection: Connection, retries: Retries, *, partitions: int) -> None:
        self._connection = connection
        self._retries = retries
        self._partitions = partitions

    async def publish(
        self,
        kind: str,
        key: SessionKey,
        work_id: str,
        data: bytes,
        *,
        timeout_seconds: float = PUBLISH_TIMEOUT_SECONDS,
    ) -> None:
        check_item(kind, work_id, data)
        headers = {
            # An id is unique in the stream, and work ids only in a session.
            _MESSAGE_ID: f"{kind}/{session_token(key)}/{work_id}",
            _TENANT: key.tenant,
            _SESSION: key.session,
            _WORK: work_id,
        }
        subject = f"{WORK_PREFIX}.{kind}.{partition_of(key, self._partitions)}"
        try:
            await self._store(subject, data, headers, now() + timeout_seconds)
        except Refused as refusal:
            if is_full(refusal):
                raise QueueFull(refusal.description) from refusal
            raise QueueUnavailable(str(refusal)) from refusal
        except Unreachable as error:
            raise QueueUnavailable(str(error)) from error

    async def consume(self, kind: str, handler: Handler, *, concurrency: int) -> None:
        check_kind(kind)
        async with asyncio.TaskGroup() as workers:
            for _ in range(concurrency):
                workers.create_task(self._work(kind, handler))

    async def dead_letters(
        self, kind: str, *, limit: int, timeout_seconds: float = LIST_TIMEOUT_SECONDS
    ) -> list[DeadLetter]:
        check_kind(kind)
        check_limit(limit)
        deadline = now() + timeout_seconds
        letters: list[Stored] = []
        try:
            while len(letters) < limit:
                start = {
                    "seq": letters[-1].sequence + 1 if letters else 1,
                    "next_by_subj": f"{DEAD_PREFIX}.{kind}.*",
                }
                batch = await read_batch(
                    self._connection, DEAD_STREAM, start, deadline=deadline, messages_max=limit - len(letters)
                )
                letters += batch.messages
                if not batch.more:
                    break
        except (Unreachable, Refused) as error:
            raise QueueUnavailable(str(error)) from error
        return [_dead_letter(stored, kind) for stored in letters]

    async def _store(self, subject: str, data: bytes, headers: dict[str, str], deadline: float) -> None:
        """Publish; the message id makes it safe to do so again. Errors: Refused, Unreachable."""
        attempts = Attempts(deadline)
        while True:
            try:
                answer = await self._connection.request(
                    subject, data, headers, deadline=deadline, patience_seconds=PATIENCE_SECONDS
                )
                check_answer(subject, answer)
            except Unreachable:
                if not await attempts.pause():
                    raise
            else:
                return

    async def _work(self, kind: str, handler: Handler) -> None:
        puller = _Puller(self._connection, kind, self._retries.silence_seconds_max)
        try:
            while True:
                await self._handle(kind, await puller.next_message(), handler)
        finally:
            await puller.close()

    async def _handle(self, kind: str, message: Msg, handler: Handler) -> None:
        headers = message.headers or {}
        key = SessionKey(TenantId(headers[_TENANT]), SessionId(headers[_SESSION]))
        item = WorkItem(kind, key, headers[_WORK], message.data, message.metadata.num_delivered)
        if item.delivery > self._retries.deliveries_max:
            await self._bury(message, item, "no worker survived it, or none was in time")
            return

        async def still_at_it() -> None:
            await _tell(self._connection, message, _STILL_AT_IT)

        try:
            error = await run(
                handler, item, still_at_it=still_at_it, interval_seconds=self._retries.silence_seconds_max / 3
            )
        except asyncio.CancelledError:
            await _tell(self._connection, message, _GIVE_BACK)
            raise
        if error is None:
            await _tell(self._connection, message, _ACK)
        elif item.delivery >= self._retries.deliveries_max:
            await self._bury(message, item, error_text(error))
        else:
            _log.info("%s %s failed, delivery %d: %s", kind, item.work_id, item.delivery, error_text(error))
            await self._rest(message, self._retries.pause_seconds(item.delivery))

    async def _bury(self, message: Msg, item: WorkItem, error: str) -> None:
        """Keep an item where an operator finds it, and only then take it out of the queue."""
        headers = {**(message.headers or {}), _DELIVERIES: str(item.delivery), _ERROR: error}
        subject = f"{DEAD_PREFIX}.{item.kind}.{partition_of(item.key, self._partitions)}"
        try:
            await self._store(subject, item.data, headers, now() + STEP_TIMEOUT_SECONDS)
        except (Refused, Unreachable) as failure:
            _log.warning("cannot keep the dead letter %s %s: %s", item.kind, item.work_id, failure)
            await self._rest(message, self._retries.seconds_max)
            return
        _log.warning("%s %s is a dead letter: %s", item.kind, item.work_id, error)
        await _tell(self._connection, message, _GIVE_UP)

    async def _rest(self, message: Msg, seconds: float) -> None:
        delay = json.dumps({"delay": int(seconds * _NANOSECONDS)}).encode()
        await _tell(self._connection, message, _GIVE_BACK + b" " + delay)


class _Puller:
    """Asks for items of a kind, one at a time, and takes whatever comes."""

    def __init__(self, connection: Connection, kind: str, silence_seconds_max: float) -> None:
        self._connection = connection
        self._kind = kind
        self._silence_seconds_max = silence_seconds_max
        self._inbox = connection.new_inbox()
        self._subscription = Subscription(self._inbox, self._on_message, self._on_resume)
        self._messages: deque[Msg] = deque()
        self._heard = asyncio.Event()
        self._listening = False
        self._consumer_exists = False
        self._asked = False
        self._complaint = ""

    async def next_message(self) -> Msg:
        """The next item. Waits for ever: through outages, restarts of the server and a deleted consumer."""
        while not self._messages:
            try:
                await self._pull()
            except (Unreachable, Refused) as error:
                # A refusal too may pass: a consumer that is just being deleted, a cluster that is full.
                self._complain(error)
                await asyncio.sleep(PAUSE_SECONDS)
        return self._messages.popleft()

    async def close(self) -> None:
        """Stop asking, and give back what nobody will handle."""
        await self._connection.unsubscribe(self._subscription)
        while self._messages:
            await _tell(self._connection, self._messages.popleft(), _GIVE_BACK)

    async def _pull(self) -> None:
        """Have one request out, and wait for anything to be heard."""
        deadline = now() + STEP_TIMEOUT_SECONDS
        if not self._listening:
            await self._connection.subscribe(self._subscription, deadline=deadline)
            self._listening = True
        if not self._consumer_exists:
            await self._ensure_consumer(deadline)
            self._consumer_exists = True
        self._heard.clear()
        if not self._asked:
            await self._connection.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{WORK_STREAM}.{self._kind}", _ONE_ITEM, reply=self._inbox
            )
            self._asked = True
        try:
            async with asyncio.timeout(SILENCE_SECONDS_MAX):
                await self._heard.wait()
        except TimeoutError:
            # Not even a heartbeat: the request is lost, or its answer was.
            self._asked = False
        if not self._consumer_exists:
            await asyncio.sleep(PAUSE_SECONDS)

    def _on_message(self, message: Msg) -> None:
        status = status_of(message)
        if status is None:
            self._messages.append(message)
        if status != _HEARTBEAT:
            self._asked = False
        if status not in (None, _HEARTBEAT, _EXPIRED):
            # No consumer, a new leader for it, a server that shuts down, too many requests: begin again, slowly.
            self._consumer_exists = False
        self._heard.set()

    def _complain(self, error: Exception) -> None:
        """One line for each change of what is wrong; of a lost connection the connection speaks."""
        if isinstance(error, Refused) and str(error) != self._complaint:
            _log.warning("no work of kind %s: %s", self._kind, error)
        self._complaint = str(error)

    def _on_resume(self) -> None:
        self._asked = False
        self._heard.set()

    async def _ensure_consumer(self, deadline: float) -> None:
        config = {
            "name": self._kind,
            "durable_name": self._kind,
            "filter_subject": f"{WORK_PREFIX}.{self._kind}.*",
            "deliver_policy": "all",
            "replay_policy": "instant",
            "ack_policy": "explicit",
            "ack_wait": int(self._silence_seconds_max * _NANOSECONDS),
            "max_deliver": -1,
            "max_ack_pending": DELIVERED_UNACKNOWLEDGED_MAX,
            "max_waiting": WORKERS_WAITING_MAX,
        }
        body = {"stream_name": WORK_STREAM, "config": config}
        await ask(self._connection, f"CONSUMER.CREATE.{WORK_STREAM}.{self._kind}", body, deadline=deadline)


async def _tell(connection: Connection, message: Msg, what: bytes) -> None:
    """Say how an item fares. If nobody hears it, the item comes again when the server has waited long enough."""
    try:
        await connection.publish(message.reply, what)
    except Unreachable as error:
        _log.debug("an item will come again: %s", error)


def _dead_letter(stored: Stored, kind: str) -> DeadLetter:
    headers = stored.headers
    key = SessionKey(TenantId(headers[_TENANT]), SessionId(headers[_SESSION]))
    item = WorkItem(kind, key, headers[_WORK], stored.data, int(headers[_DELIVERIES]))
    return DeadLetter(item, headers[_ERROR])

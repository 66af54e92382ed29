"""What a connection promises about outcomes, and that it comes back."""

import asyncio

import pytest
from nats.aio.msg import Msg

from pagekeeper.runtime.log.connection import REQUESTS_IN_FLIGHT_MAX, Subscription, Unreachable, connect, now
from tests.servers import NatsServer, Proxy, eventually

LONG_SECONDS = 60.0
PROMPT_SECONDS = 10.0


class Listener:
    """A subscription that keeps what it hears."""

    def __init__(self, subject: str) -> None:
        self.heard: list[bytes] = []
        self.resumed = 0
        self.subscription = Subscription(subject, self._on_message, self._on_resume)

    def _on_message(self, message: Msg) -> None:
        self.heard.append(message.data)

    def _on_resume(self) -> None:
        self.resumed += 1


async def test_what_is_under_way_when_the_connection_breaks_fails_at_once(
    nats_server: NatsServer, proxy: Proxy
) -> None:
    async with connect([nats_server.url], name="silent") as silent:
        listener = Listener("question")
        await silent.subscribe(listener.subscription, deadline=now() + 5)
        async with connect([nats_server.url_at(proxy.port)], name="asking") as connection:
            asking = asyncio.ensure_future(connection.request("question", b"?", deadline=now() + LONG_SECONDS))

            async def asked() -> bool:
                return listener.heard == [b"?"]

            await eventually(asked)
            proxy.cut()
            async with asyncio.timeout(PROMPT_SECONDS):
                with pytest.raises(Unreachable) as lost:
                    await asking
            assert lost.value.sent


async def test_a_question_that_nobody_takes_was_not_sent(nats_server: NatsServer) -> None:
    async with connect([nats_server.url], name="asking") as connection:
        with pytest.raises(Unreachable) as nobody:
            await connection.request("question", b"?", deadline=now() + LONG_SECONDS)
        assert not nobody.value.sent


async def test_what_is_sent_while_there_is_no_connection_is_never_sent_later(nats_server: NatsServer) -> None:
    async with (
        connect([nats_server.url], name="listening") as listening,
        connect([nats_server.url], name="asking") as connection,
    ):
        listener = Listener("question")
        await listening.subscribe(listener.subscription, deadline=now() + 5)
        nats_server.kill()

        async def noticed() -> bool:
            return connection.message_bytes_max == 0

        await eventually(noticed)
        with pytest.raises(Unreachable) as unsent:
            await connection.request("question", b"never", deadline=now() + 0.3)
        assert not unsent.value.sent
        await asyncio.to_thread(nats_server.start)
        await listening.wait_until_up(now() + 10)

        async def resumed() -> bool:
            return listener.resumed == 1

        await eventually(resumed)
        await connection.wait_until_up(now() + 10)
        await connection.publish("question", b"now")

        async def heard() -> bool:
            return bool(listener.heard)

        await eventually(heard)
        assert listener.heard == [b"now"]


async def test_subscriptions_live_until_they_are_ended(nats_server: NatsServer, proxy: Proxy) -> None:
    async with connect([nats_server.url_at(proxy.port)], name="listening") as connection:
        kept, ended = Listener("kept"), Listener("ended")
        for listener in (kept, ended):
            await connection.subscribe(listener.subscription, deadline=now() + 5)
        await connection.unsubscribe(ended.subscription)
        proxy.cut()

        async def resumed() -> bool:
            return kept.resumed == 1

        await eventually(resumed)
        for subject in ("ended", "kept"):
            await connection.publish(subject, b"!")

        async def heard() -> bool:
            return bool(kept.heard)

        await eventually(heard)
        assert (kept.heard, ended.heard, ended.resumed) == ([b"!"], [], 0)


async def test_no_more_requests_are_under_way_than_the_server_can_bear(nats_server: NatsServer) -> None:
    async with connect([nats_server.url], name="silent") as silent, connect([nats_server.url], name="asking") as asking:
        listener = Listener("question")
        await silent.subscribe(listener.subscription, deadline=now() + 5)
        under_way = [
            asyncio.ensure_future(asking.request("question", b"?", deadline=now() + LONG_SECONDS))
            for _ in range(REQUESTS_IN_FLIGHT_MAX)
        ]

        async def asked() -> bool:
            return len(listener.heard) == REQUESTS_IN_FLIGHT_MAX

        await eventually(asked)
        with pytest.raises(Unreachable) as refused:
            await asking.request("question", b"?", deadline=now() + 0.3)
        assert not refused.value.sent
        assert len(listener.heard) == REQUESTS_IN_FLIGHT_MAX

        # One that ends makes room for one.
        under_way.pop().cancel()
        with pytest.raises(Unreachable) as unanswered:
            await asking.request("question", b"?", deadline=now() + 0.3)
        assert unanswered.value.sent
        for request in under_way:
            request.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def test_leaving_does_not_wait_for_a_server_that_hangs(nats_server: NatsServer, proxy: Proxy) -> None:
    async with asyncio.timeout(PROMPT_SECONDS):
        async with connect([nats_server.url_at(proxy.port)], name="leaving") as connection:
            proxy.drop_answers = proxy.drop_questions = True
            with pytest.raises(Unreachable):
                await connection.request("question", b"?" * 900_000, deadline=now() + 0.2)
        proxy.cut()
    async with asyncio.timeout(PROMPT_SECONDS), connect([nats_server.url], name="leaving"):
        nats_server.kill()


async def test_an_error_of_the_block_is_that_error(nats_server: NatsServer) -> None:
    with pytest.raises(KeyError):
        async with connect([nats_server.url], name="failing"):
            raise KeyError

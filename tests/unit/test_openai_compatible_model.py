"""An OpenAI-compatible endpoint: what is sent, what is understood, and what is repeated."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from demo.corpus.types import ToolCall
from demo.model.openai_compatible import ATTEMPTS_MAX, OpenAiCompatibleModel
from demo.model.port import ModelFailed, Reply

CHAT = [{"role": "developer", "content": "Rules."}, {"role": "user", "content": "Hello?"}]
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
KEY = "sk-very-secret"


def said(message: dict[str, Any], usage: object = None) -> httpx.Response:
    return httpx.Response(200, json={"choices": [{"message": message}], "usage": usage})


class Endpoint:
    """Answers one after the other; an exception is raised. The last answer is given again and again."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.pauses: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def model(self, url: str = "http://llm.test/v1") -> OpenAiCompatibleModel:
        handler: Callable[[httpx.Request], httpx.Response] = self
        return OpenAiCompatibleModel(url, "tiny", KEY, transport=httpx.MockTransport(handler), sleep=self.sleep)


async def failure(endpoint: Endpoint) -> str:
    model = endpoint.model()
    with pytest.raises(ModelFailed) as caught:
        await model.complete(CHAT, TOOLS)
    await model.close()
    assert KEY not in str(caught.value)
    return str(caught.value)


async def test_model_messages_and_tools_are_sent_with_the_key() -> None:
    endpoint = Endpoint(said({"role": "assistant", "content": "Hi."}, {"prompt_tokens": 12}))
    model = endpoint.model()
    assert await model.complete(CHAT, TOOLS) == Reply("Hi.", (), 12)
    assert await model.complete(CHAT, []) == Reply("Hi.", (), 12)
    await model.close()
    first, second = endpoint.requests
    assert str(first.url) == "http://llm.test/v1/chat/completions"
    assert first.headers["authorization"] == f"Bearer {KEY}"
    body = json.loads(first.content)
    assert body == {"model": "tiny", "messages": [CHAT[0] | {"role": "system"}, CHAT[1]], "tools": TOOLS}
    assert "tools" not in json.loads(second.content)


async def test_tool_calls_are_understood_also_with_arguments_as_an_object() -> None:
    calls = [
        {"id": "a", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}},
        {"id": "b", "function": {"name": "look", "arguments": {"at": 2}}},
        {"id": "c", "function": {"name": "look"}},
    ]
    model = Endpoint(said({"content": None, "tool_calls": calls})).model("http://llm.test/v1/chat/completions")
    reply = await model.complete(CHAT, TOOLS)
    await model.close()
    assert reply == Reply(
        "", (ToolCall("a", "look", '{"at": 1}'), ToolCall("b", "look", '{"at": 2}'), ToolCall("c", "look", "{}"))
    )


async def test_what_may_pass_is_repeated_with_growing_pauses_that_the_server_may_ask_for() -> None:
    endpoint = Endpoint(
        httpx.Response(429, headers={"retry-after": "7"}),
        httpx.ConnectError("refused"),
        httpx.Response(503, headers={"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}),
        httpx.Response(500, headers={"retry-after": "9999"}),
        said({"content": "Finally."}),
    )
    model = endpoint.model()
    assert (await model.complete(CHAT, TOOLS)).text == "Finally."
    await model.close()
    assert endpoint.pauses == [7.0, 1.0, 2.0, 30.0]


async def test_repetition_ends() -> None:
    endpoint = Endpoint(httpx.ReadTimeout("slow"))
    assert "did not answer after 5 attempts; the last one: ReadTimeout: slow" in await failure(endpoint)
    assert len(endpoint.requests) == ATTEMPTS_MAX
    assert len(endpoint.pauses) == ATTEMPTS_MAX - 1


async def test_a_refusal_is_not_repeated_and_says_what_the_server_says() -> None:
    endpoint = Endpoint(httpx.Response(401, json={"error": {"message": "Incorrect API key provided"}}))
    assert (await failure(endpoint)).endswith("answered 401: Incorrect API key provided")
    assert len(endpoint.requests) == 1
    assert (await failure(Endpoint(httpx.Response(404, text="no such page")))).endswith("answered 404: no such page")
    assert (await failure(Endpoint(httpx.Response(400, json={"error": "tools?"})))).endswith("answered 400: tools?")


@pytest.mark.parametrize("body", ["<html>", "{}", '{"choices": []}', '{"choices": [{"message": null}]}', "[1]"])
async def test_an_answer_that_is_no_completion_is_shown(body: str) -> None:
    message = await failure(Endpoint(httpx.Response(200, text=body)))
    assert message.endswith(f"answered something that is no chat completion: {body!r}")

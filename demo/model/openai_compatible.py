"""Any endpoint that speaks OpenAI Chat Completions with tools, local servers included.

Only what every such server understands is sent: `model`, `messages`, `tools`. The developer role goes out as `system`,
which older servers know and newer ones read as developer. The key is sent, and never shown.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import httpx

from demo.corpus.types import ToolCall
from demo.model.port import ChatMessage, ModelFailed, Reply, ToolSchema

ATTEMPTS_MAX: Final = 5
PAUSE_SECONDS_MAX: Final = 30.0
ANSWER_SECONDS_MAX: Final = 300.0
CONNECT_SECONDS_MAX: Final = 10.0
_FIRST_PAUSE_SECONDS: Final = 0.5
_SHOWN_CHARS_MAX: Final = 300
_WORTH_REPEATING: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_ROLES: Final = {"developer": "system"}


class OpenAiCompatibleModel:
    """The `Model` behind an endpoint. Keeps its connections until it is closed."""

    def __init__(
        self,
        url: str,
        model: str,
        key: str = "",
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`url` is the endpoint's base, such as `http://localhost:8080/v1`."""
        self.name = model
        self.counted_as = model
        self._address = url if url.endswith("/chat/completions") else f"{url.rstrip('/')}/chat/completions"
        self._sleep = sleep
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(ANSWER_SECONDS_MAX, connect=CONNECT_SECONDS_MAX),
            transport=transport,
        )

    async def close(self) -> None:
        """Give the connections back."""
        await self._client.aclose()

    async def complete(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSchema]) -> Reply:
        """The endpoint's answer. Repeats what may pass: no connection, too many requests, a server's own failure.

        Raises ModelFailed.
        """
        body: dict[str, object] = {"model": self.name, "messages": [_sent(message) for message in messages]}
        if tools:
            body["tools"] = list(tools)
        problem = ""
        for attempt in range(ATTEMPTS_MAX):
            try:
                response = await self._client.post(self._address, json=body)
            except httpx.TransportError as error:
                problem, pause = f"{type(error).__name__}: {error}".rstrip(": "), 0.0
            else:
                if response.status_code == httpx.codes.OK:
                    return _reply(response, self._address)
                problem, pause = _refusal(response), _asked_pause_seconds(response)
                if response.status_code not in _WORTH_REPEATING:
                    raise ModelFailed(f"{self._address} answered {problem}")
            if attempt + 1 < ATTEMPTS_MAX:
                await self._sleep(min(max(pause, _FIRST_PAUSE_SECONDS * 2**attempt), PAUSE_SECONDS_MAX))
        raise ModelFailed(f"{self._address} did not answer after {ATTEMPTS_MAX} attempts; the last one: {problem}")


def _sent(message: ChatMessage) -> ChatMessage:
    role = str(message["role"])
    return {**message, "role": _ROLES.get(role, role)}


def _reply(response: httpx.Response, address: str) -> Reply:
    try:
        answer = response.json()
        message = answer["choices"][0]["message"]
        calls = tuple(
            ToolCall(str(call["id"]), str(call["function"]["name"]), _arguments(call["function"].get("arguments")))
            for call in message.get("tool_calls") or ()
        )
        text = message.get("content") or message.get("refusal") or ""
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        shown = response.text[:_SHOWN_CHARS_MAX]
        raise ModelFailed(f"{address} answered something that is no chat completion: {shown!r}") from error
    usage = answer.get("usage")
    prompt_tokens = usage.get("prompt_tokens") if isinstance(usage, Mapping) else None
    return Reply(str(text), calls, prompt_tokens if isinstance(prompt_tokens, int) else 0)


def _arguments(value: object) -> str:
    """Most servers send JSON text, some the object itself."""
    return value if isinstance(value, str) else json.dumps(value if value is not None else {})


def _refusal(response: httpx.Response) -> str:
    """Status and reason. The body is the server's own text; it does not repeat our headers."""
    try:
        detail = response.json()["error"]
        reason = str(detail["message"] if isinstance(detail, Mapping) else detail)
    except (ValueError, KeyError, TypeError):
        reason = response.text
    return f"{response.status_code}: {reason[:_SHOWN_CHARS_MAX]}".strip(": ")


def _asked_pause_seconds(response: httpx.Response) -> float:
    """Return the seconds of a Retry-After header; 0 without one, and for a date."""
    try:
        return float(response.headers.get("retry-after", "0"))
    except ValueError:
        return 0.0

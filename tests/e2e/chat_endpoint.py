"""The scripted model behind a port that speaks OpenAI Chat Completions, as strict about a request as a provider is."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

from demo.corpus.types import ToolCall
from demo.model.port import ChatMessage, Model, Reply
from demo.model.scripted import ScriptedModel
from pagekeeper.runtime.tokens import count_messages, count_tools, for_model

KEY = "a key that opens nothing"
ROLES = frozenset({"developer", "system", "user", "assistant", "tool"})
FINISHED = {True: "tool_calls", False: "stop"}


class Refused(Exception):
    """What a provider would answer with status 400."""


class ChatEndpoint:
    """An endpoint at `url` that keeps what it was asked, for tests to look at."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._tokens = for_model(model.counted_as).tokenizer
        self._answering = Lock()
        self.requests: list[Mapping[str, Any]] = []
        self.url = ""

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A completion. Raises Refused."""
        with self._answering:
            self.requests.append(request)
            number = len(self.requests)
        messages, tools = request["messages"], request.get("tools", [])
        check(messages)
        reply = asyncio.run(self._model.complete(messages, tools))
        prompt_tokens = count_messages(self._tokens, messages) + count_tools(self._tokens, tools)
        completion_tokens = self._tokens.count(reply.text)
        return {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion",
            "created": 0,
            "model": request["model"],
            "choices": [{"index": 0, "finish_reason": FINISHED[bool(reply.tool_calls)], "message": _message(reply)}],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
            },
        }


def check(messages: Sequence[ChatMessage]) -> None:
    """What OpenAI checks: known roles, and a tool message for every call right behind it and for nothing else."""
    owed: set[str] = set()
    for number, message in enumerate(messages):
        role = message.get("role")
        if role not in ROLES:
            raise Refused(f"messages[{number}].role: {role!r} is none of {sorted(ROLES)}")
        if role == "tool":
            answered = str(message.get("tool_call_id"))
            if answered not in owed:
                raise Refused(f"messages[{number}] answers {answered!r}, which no message before it has called")
            owed.discard(answered)
        elif owed:
            raise Refused(f"messages[{number}] comes before the answers to {sorted(owed)}")
        calls = message.get("tool_calls")
        if isinstance(calls, list):
            owed = {str(call["id"]) for call in calls}
        if not isinstance(message.get("content"), str) and not owed:
            raise Refused(f"messages[{number}].content must be a text")
    if owed:
        raise Refused(f"no message answers {sorted(owed)}")


@contextmanager
def chat_endpoint() -> Iterator[ChatEndpoint]:
    """An endpoint on a free port of this machine while the context lasts."""
    endpoint = ChatEndpoint(ScriptedModel())

    class Handler(BaseHTTPRequestHandler):
        """One request; the connection ends with it."""

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/v1/chat/completions":
                self._send(HTTPStatus.NOT_FOUND, {"error": {"message": f"nothing at {self.path}"}})
            elif self.headers["Authorization"] != f"Bearer {KEY}":
                self._send(HTTPStatus.UNAUTHORIZED, {"error": {"message": "wrong key"}})
            else:
                try:
                    answer = endpoint.answer(body)
                except Refused as refused:
                    self._send(HTTPStatus.BAD_REQUEST, {"error": {"message": str(refused)}})
                else:
                    self._send(HTTPStatus.OK, answer)

        def _send(self, status: HTTPStatus, answer: Mapping[str, Any]) -> None:
            encoded = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the name is the standard library's
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, name="chat-endpoint")
    thread.start()
    endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield endpoint
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _message(reply: Reply) -> dict[str, Any]:
    if not reply.tool_calls:
        return {"role": "assistant", "content": reply.text}
    return {
        "role": "assistant",
        "content": reply.text or None,
        "tool_calls": [_call(call) for call in reply.tool_calls],
    }


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}

"""Tools are made once for the same request, and what is remembered of them is bounded by bytes."""

import json
from typing import Final

import pytest

from pagekeeper.gateway import prompt_tools
from pagekeeper.gateway.prompt_tools import PromptTools
from pagekeeper.runtime.tokens import count_tools, for_model
from pagekeeper.v1 import memory_service_pb2 as pb

MODEL: Final = for_model("gpt-4o")
CLAUDE: Final = for_model("claude-sonnet-4-5")


def asking(*names: str) -> pb.AssemblePromptRequest:
    return pb.AssemblePromptRequest(extra_tools_json=[json.dumps({"name": name}) for name in names])


def test_the_same_tools_are_made_once_and_others_are_not_taken_for_them() -> None:
    tools = PromptTools()
    made = tools.tools(asking("a", "b"), MODEL, passive=False)
    assert tools.tools(asking("a", "b"), MODEL, passive=False) is made
    assert [one.get("name", "") for one in made.definitions] == ["", "", "a", "b"]
    assert made.tokens == count_tools(MODEL.tokenizer, made.definitions)
    others = [
        tools.tools(asking("b", "a"), MODEL, passive=False),
        tools.tools(asking("a"), MODEL, passive=False),
        tools.tools(asking("a", "b"), MODEL, passive=True),
        tools.tools(asking("a", "b"), CLAUDE, passive=False),
    ]
    assert len({json.dumps(one.definitions) for one in (made, *others)}) == 1 + len(others)


def test_what_is_remembered_is_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    small = PromptTools().tools(asking("a"), MODEL, passive=False).size_bytes
    monkeypatch.setattr(prompt_tools, "KEPT_BYTES_MAX", 2 * small)
    tools = PromptTools()
    first = tools.tools(asking("a"), MODEL, passive=False)
    large = tools.tools(asking("x" * small), MODEL, passive=False)
    assert tools.tools(asking("x" * small), MODEL, passive=False) is not large
    assert tools.tools(asking("a"), MODEL, passive=False) is first
    for name in "bcd":
        tools.tools(asking(name), MODEL, passive=False)
    assert tools.tools(asking("a"), MODEL, passive=False) is not first

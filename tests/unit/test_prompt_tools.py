"""Tools are made once for the same request, away from the loop when they are large, and bounded by bytes."""

import json
from typing import Final

import pytest

from pagekeeper.core.assembly import AssembledChat, PromptTokens, digest_of
from pagekeeper.core.errors import InvalidField
from pagekeeper.core.tools import get_vm_tools_as_dicts
from pagekeeper.gateway import prompt_tools
from pagekeeper.gateway.prompt_tools import PromptTools
from pagekeeper.runtime.pool import HERE_BYTES_MAX, InlinePool
from pagekeeper.runtime.tokens import count_tools, for_model
from pagekeeper.v1 import memory_service_pb2 as pb
from tests.unit.stack import SeenPool

MODEL: Final = for_model("gpt-4o")
CLAUDE: Final = for_model("claude-sonnet-4-5")


def asking(*names: str) -> pb.AssemblePromptRequest:
    return pb.AssemblePromptRequest(extra_tools_json=[json.dumps({"name": name}) for name in names])


async def test_the_same_tools_are_made_once_and_others_are_not_taken_for_them() -> None:
    tools = PromptTools(InlinePool())
    made = await tools.tools("acme", asking("a", "b"), MODEL, passive=False)
    assert await tools.tools("other", asking("a", "b"), MODEL, passive=False) is made
    definitions = json.loads(made.compact)
    assert [one.get("name", "") for one in definitions] == ["", "", "a", "b"]
    assert made.tokens == count_tools(MODEL.tokenizer, definitions)
    others = [
        await tools.tools("acme", asking("b", "a"), MODEL, passive=False),
        await tools.tools("acme", asking("a"), MODEL, passive=False),
        await tools.tools("acme", asking("a", "b"), MODEL, passive=True),
        await tools.tools("acme", asking("a", "b"), CLAUDE, passive=False),
    ]
    assert len({one.compact for one in (made, *others)}) == 1 + len(others)


async def test_the_digest_of_a_prompt_is_of_its_tools() -> None:
    made = await PromptTools(InlinePool()).tools("acme", asking("b", "a"), MODEL, passive=False)
    definitions = (*get_vm_tools_as_dicts(), {"name": "b"}, {"name": "a"})
    chat = AssembledChat((), definitions, PromptTokens(0, 0, 0, 0, 0, 0), (), (), (), (), (), ())
    assert digest_of((), made.canonical) == chat.digest


async def test_large_tools_are_parsed_and_counted_once_and_away_from_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = SeenPool()
    tools = PromptTools(pool)
    await tools.tools("acme", asking("a"), MODEL, passive=False)
    assert not pool.computed
    large = asking("x" * HERE_BYTES_MAX)
    made = await tools.tools("acme", large, MODEL, passive=True)
    assert json.loads(made.compact) == [{"name": "x" * HERE_BYTES_MAX}]
    monkeypatch.setattr(prompt_tools, "read_json", None)
    assert await tools.tools("other", large, MODEL, passive=True) is made
    assert pool.computed == [("acme", "make_tools")]


@pytest.mark.parametrize("padding", [0, HERE_BYTES_MAX], ids=["small", "large"])
@pytest.mark.parametrize("wrong", ["[]", "{", "null", '{"a": NaN}', "[" * 70_000])
async def test_a_tool_that_is_no_object_is_refused_by_its_place(wrong: str, padding: int) -> None:
    request = pb.AssemblePromptRequest(extra_tools_json=["{}" + " " * padding, wrong, "{"])
    with pytest.raises(InvalidField, match="must be a JSON object") as refusal:
        await PromptTools(InlinePool()).tools("acme", request, MODEL, passive=False)
    assert refusal.value.field == "extra_tools_json[1]"


async def test_what_is_remembered_is_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    small = (await PromptTools(InlinePool()).tools("acme", asking("a"), MODEL, passive=False)).size_bytes
    monkeypatch.setattr(prompt_tools, "KEPT_BYTES_MAX", 2 * small)
    tools = PromptTools(InlinePool())

    async def made(name: str) -> prompt_tools.Tools:
        return await tools.tools("acme", asking(name), MODEL, passive=False)

    first = await made("a")
    large = await made("x" * small)
    assert await made("x" * small) is not large
    assert await made("a") is first
    for name in "bcd":
        await made(name)
    assert await made("a") is not first

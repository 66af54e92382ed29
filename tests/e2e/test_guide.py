"""The guide keeps its word: all of its code runs, prints what it says, and uses every name that it is there to show."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError

import pagekeeper.client
import pagekeeper.memory
from pagekeeper.local.stack import LocalStack, Topology
from tests.e2e.chat_endpoint import KEY, ChatEndpoint, chat_endpoint
from tests.e2e.guide_blocks import python_blocks
from tests.stacks import new_tenant, running_stack

GUIDE = Path(__file__).parents[2] / "docs" / "guide.md"

NAMES = {
    "pagekeeper.client": {"connect"},
    "pagekeeper.memory": {
        "ArtifactsBridge",
        "AvailablePageEntry",
        "CompressorRegistry",
        "ContextPacker",
        "EventSource",
        "ImportanceWeightedLRU",
        "InMemoryBackend",
        "InfiniteConversationManager",
        "ManifestBuilder",
        "ManifestPolicies",
        "MemoryManager",
        "MemoryPage",
        "Modality",
        "PageFaultHandler",
        "PageSearchHandler",
        "PageTLB",
        "PageTable",
        "SessionManager",
        "StorageTier",
        "SummarizationStrategy",
        "TLBWithPageTable",
        "TokenBudget",
        "VMMode",
        "WorkingSetConfig",
        "WorkingSetManager",
        "build_vm_developer_message",
        "get_vm_tools_as_dicts",
    },
}
CALLS = {
    *(
        "user_says",
        "ai_responds",
        "get_messages_for_llm",
        "register",
        "lookup",
        "load_page",
        "store_page",
        "checkpoint",
    ),
    *("add_to_l0", "remove_from_l0", "get_l0_page_ids", "needs_eviction", "get_eviction_candidates", "can_fit"),
    *(
        "calculate_eviction_target",
        "set_importance",
        "pack",
        "add_working_set_page",
        "add_available_page_entry",
        "build",
    ),
    *("model_dump_json", "can_fault", "handle_fault", "build_tool_result", "search", "new_turn", "get_by_tier"),
    *("update_location", "estimate_tokens", "get_stats", "get_metrics", "default", "build_request", "process_response"),
    *("add_user_message", "add_assistant_message", "check_and_evict", "create"),
    *("process_message", "build_context_for_llm", "get_full_conversation_history"),
}
"""What the guide's vocabulary can do."""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    with running_stack(tmp_path, Topology.ONE) as stack:
        yield stack


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatEndpoint]:
    """Where `AsyncOpenAI()` goes."""
    with chat_endpoint() as endpoint:
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        yield endpoint


def test_every_block_runs_and_prints_what_the_guide_shows(
    stack: LocalStack, endpoint: ChatEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PK_ENDPOINT", stack.endpoint)
    monkeypatch.setenv("PK_TOKEN", stack.token(new_tenant("guide")))
    namespace: dict[str, Any] = {"__name__": "guide"}
    shown = 0
    with asyncio.Runner() as runner:
        for block in python_blocks(GUIDE):
            printed = block.run(namespace, runner)
            assert block.shows(printed), f"{GUIDE.name}:{block.line} prints\n{printed}"
            shown += block.shown is not None
    assert shown > 10
    called = {call["function"]["name"] for request in endpoint.requests for call in calls(request["messages"])}
    assert called == {"search_pages", "page_fault"}


def calls(messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for message in messages:
        yield from message.get("tool_calls") or ()


def test_the_guide_shows_every_name_and_call_of_its_vocabulary() -> None:
    code = "\n".join(block.code for block in python_blocks(GUIDE))
    for module, names in NAMES.items():
        exported = {"pagekeeper.client": pagekeeper.client, "pagekeeper.memory": pagekeeper.memory}[module]
        assert names <= set(exported.__all__)
        assert not {name for name in names if not re.search(rf"\b{name}\b", code)}
    assert not {call for call in CALLS if not re.search(rf"\b{call}\(", code)}


async def test_the_endpoint_refuses_what_a_provider_refuses(endpoint: ChatEndpoint) -> None:
    """So a guide that forgets to repeat the model's calls in front of their answers does not pass."""
    assert endpoint.url
    async with AsyncOpenAI(max_retries=0) as client:
        with pytest.raises(BadRequestError, match="has called"):
            await client.chat.completions.create(
                model="gpt-4o",
                messages=[
                    {"role": "user", "content": "Which port?"},
                    {"role": "tool", "tool_call_id": "call_1", "content": "{}"},
                ],
            )

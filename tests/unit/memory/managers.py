"""Small memories, filled, and the calls of a model to them."""

import json
from types import SimpleNamespace
from typing import Any

from pagekeeper.memory import (
    MemoryManager,
    MemoryPage,
    WorkingSetConfig,
)

SENTENCES = (
    "We decided to sign access tokens with EdDSA in March 2026.",
    "The deadline for the ledger is the 14th of May.",
    "Thanks a lot, that is great!",
    "The gateway listens on port 8080 and the proxy in front of it on 443.",
    "Nobody remembers who named the staging server Havenbrot.",
)
SMALL = WorkingSetConfig(max_l0_tokens=1_000, reserved_tokens=500)


TIGHT = WorkingSetConfig(max_l0_tokens=1_000, reserved_tokens=500, target_utilization=0.85)
"""Evicts no more than it has to, so it is always full."""


def small(config: WorkingSetConfig = SMALL, **settings: Any) -> MemoryManager:  # noqa: ANN401 - as it has them
    """By least recently used, so that who scripts it knows what leaves."""
    return MemoryManager("s", config=config, **({"eviction_policy": "lru/1"} | settings))


async def filled(memory: MemoryManager, messages: int = 40) -> MemoryPage:
    """The first of so many messages, all different; it is not in the prompt any more."""
    first = await memory.add_user_message(SENTENCES[0])
    for number in range(messages):
        await memory.add_user_message(f"{number}: {' '.join(SENTENCES[1:])}")
    assert not memory.working_set.is_in_l0(first.page_id)
    return first


def called(*calls: tuple[str, str]) -> SimpleNamespace:
    """A response whose message makes these calls, of names and arguments as a model wrote them."""
    tool_calls = [
        SimpleNamespace(id=f"call_{number}", function=SimpleNamespace(name=name, arguments=arguments))
        for number, (name, arguments) in enumerate(calls)
    ]
    return SimpleNamespace(choices=[SimpleNamespace(message=SimpleNamespace(content=None, tool_calls=tool_calls))])


async def answers(memory: MemoryManager, *calls: tuple[str, str]) -> list[dict[str, Any]]:
    result = await memory.process_response(called(*calls))
    assert isinstance(result, dict)
    assert [made["id"] for made in result["assistant_message"]["tool_calls"]] == [
        message["tool_call_id"] for message in result["tool_results"]
    ]
    return [json.loads(message["content"]) for message in result["tool_results"]]

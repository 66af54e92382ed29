"""SessionManager over a running stack: the same object, with everything that was said kept elsewhere."""

import asyncio
import json
from types import SimpleNamespace

import pytest

from pagekeeper.client import Pagekeeper, SessionManager, SummarizationStrategy, user
from pagekeeper.core.errors import InvalidField
from pagekeeper.local.stack import LocalStack
from pagekeeper.memory import ImportanceWeightedLRU, VMMode, WorkingSetConfig
from pagekeeper.v1 import page_pb2, session_pb2
from tests.stacks import new_tenant

pytestmark = pytest.mark.xdist_group("stacks")

DECISION = "Decision: access tokens are signed with EdDSA and live for ten minutes."
WORDS = "The tide comes in at dawn and again at dusk. " * 12


@pytest.fixture
def stack(stack_of_one: LocalStack) -> LocalStack:
    """A stack's own distribution over processes makes no difference to this client."""
    return stack_of_one


def small() -> WorkingSetConfig:
    return WorkingSetConfig(max_l0_tokens=4_000, reserved_tokens=1_500)


def called(name: str, **arguments: object) -> SimpleNamespace:
    """A response whose message calls one tool."""
    function = SimpleNamespace(name=name, arguments=json.dumps(arguments))
    message = SimpleNamespace(content=None, tool_calls=[SimpleNamespace(id="call_1", function=function)])
    return SimpleNamespace(choices=[SimpleNamespace(message=message)])


async def test_what_is_said_is_paged_and_found_again(alice: Pagekeeper) -> None:
    sm = SessionManager(
        client=alice, system_prompt="You are the scribe.", vm_config=small(), vm_eviction_policy="lru/1"
    )
    await sm.user_says(DECISION, channel="desk")
    await sm.ai_responds("Noted.", model="gpt-4o")
    for number in range(20):
        await sm.user_says(f"{number}: {WORDS}")
        await sm.ai_responds("Noted.", model="gpt-4o")
    await sm.tool_used("clock", {"zone": "UTC"}, {"time": "12:00"}, tool_call_id="c7")
    await sm.user_says("And now?", speaker="Alice", said_unix_ms=1_778_248_980_000)

    messages = await sm.get_messages_for_llm()
    assert [message["role"] for message in messages] == ["system", "user"]
    assert messages[0]["content"].startswith("You are the scribe.")
    assert '"tool":"clock"' in messages[0]["content"]
    assert messages[1]["content"].endswith('"Alice" 2026-05-08 14:03: And now?')
    context = messages[0]["content"].partition("<VM:CONTEXT>")[2]
    assert ' "clock" "c7"): {"tool":"clock"' in context
    assert DECISION not in context

    [found] = (await sm.search_pages("EdDSA", limit=1)).results
    result = await sm.process_response(called("page_fault", page_id=found.page_id, target_level=0))
    assert isinstance(result, dict)
    assert result["assistant_message"]["tool_calls"][0]["id"] == result["tool_results"][0]["tool_call_id"] == "call_1"
    assert json.loads(result["tool_results"][0]["content"])["page"]["content"] == {"text": DECISION}
    assert DECISION in json.dumps(await sm.get_messages_for_llm())
    assert {tool["function"]["name"] for tool in (await sm.build_request())["tools"]} == {"page_fault", "search_pages"}


async def test_another_process_goes_on_where_the_first_stopped(alice: Pagekeeper) -> None:
    first = SessionManager(client=alice, session_id="shared", infinite_context=True, max_turns_per_segment=4)
    await first.user_says("One.", channel="desk")
    await first.ai_responds("Two.", model="gpt-4o", provider="openai")
    await first.user_says("Three.")

    second = SessionManager(client=alice, session_id="shared", infinite_context=True, max_turns_per_segment=4)
    assert [said["content"] for said in await second.get_conversation()] == ["One.", "Two.", "Three."]
    assert await second.get_stats(include_all_segments=False) == await second.get_stats()
    await second.ai_responds("Four.")
    await second.user_says("Five.")
    assert await second.get_messages_for_llm(include_system=False) == [{"role": "user", "content": "Five."}]
    stats = await SessionManager(client=alice, session_id="shared").get_stats()
    assert (stats.session_segments, stats.user_messages, stats.ai_messages) == (2, 3, 2)
    assert stats.session_chain == ["shared"]
    third = SessionManager(client=alice, session_id="shared", infinite_context=True, max_turns_per_segment=4)
    await third.load_session_chain()
    current = await third.get_stats(include_all_segments=False)
    assert (current.session_segments, current.user_messages, current.ai_messages) == (1, 1, 0)
    assert 0 < current.total_tokens < stats.total_tokens


async def test_a_full_segment_has_a_checkpoint_and_a_pinned_summary(alice: Pagekeeper) -> None:
    sm = SessionManager(
        client=alice,
        infinite_context=True,
        token_threshold=400,
        summarization_strategy=SummarizationStrategy.KEY_POINTS,
    )
    for number in range(12):
        await sm.user_says(f"In week {number} we moved {number * 11} customers. {WORDS}")
        await sm.ai_responds("Noted.")
    session = sm.session
    assert session is not None
    segments = (await sm.get_stats()).session_segments
    assert segments > 3
    names = [checkpoint.name async for checkpoint in session.checkpoints()]
    assert names == [f"segment {number}" for number in range(1, segments)]
    summaries = [page async for page in session.pages(page_type=page_pb2.PAGE_TYPE_SUMMARY)]
    assert [page.pinned for page in summaries] == [False] * (segments - 2) + [True]
    assert "we moved" in (await session.read(summaries[0].page_id)).decode()
    assert {link.kind for link in summaries[0].links} == {page_pb2.LINK_KIND_REPRESENTS}


async def test_pins_and_checkpoints_are_the_stacks(alice: Pagekeeper) -> None:
    sm = SessionManager(client=alice, vm_config=small())
    await sm.user_says(DECISION)
    checkpoint_id = await sm.checkpoint("before the noise")
    [found] = (await sm.search_pages("EdDSA", modality="text")).results
    await sm.pin_page(found.page_id)
    for number in range(20):
        await sm.user_says(f"{number}: {WORDS}")
    assert DECISION in (await sm.get_messages_for_llm())[0]["content"]
    await sm.unpin_page(found.page_id)
    await sm.restore_checkpoint(checkpoint_id)
    assert [said["content"] for said in await sm.get_conversation()] == [DECISION]
    assert not (await sm.search_pages("EdDSA", modality="image")).results


async def test_a_fault_says_what_it_brought_or_why_not(alice: Pagekeeper) -> None:
    sm = SessionManager(client=alice)
    await sm.user_says(DECISION)
    [found] = (await sm.search_pages("EdDSA")).results
    brought = await sm.handle_fault(found.page_id)
    assert brought.page is not None
    assert (brought.success, brought.page.content) == (True, DECISION)
    missing = await sm.handle_fault("nobody")
    assert not missing.success
    assert "nobody" in str(missing.error)


async def test_settings_reach_the_session(alice: Pagekeeper) -> None:
    sm = SessionManager(client=alice, vm_mode=VMMode.PASSIVE, vm_config=small(), vm_eviction_policy="lru/1")
    await sm.user_says("Hello.")
    assert sm.session is not None
    config = (await sm.session.get()).config
    assert (config.mode, config.max_l0_tokens, config.reserved_tokens) == (session_pb2.VM_MODE_PASSIVE, 4_000, 1_500)
    assert config.eviction_policy == "lru/1"
    assert "tools" not in await sm.build_request()
    assert sm.vm is None
    assert sm.get_vm_context() is None


async def test_a_stack_runs_no_code_of_the_callers(alice: Pagekeeper) -> None:
    with pytest.raises(ValueError, match="policy of its own"):
        SessionManager(client=alice, vm_eviction_policy=ImportanceWeightedLRU())
    with pytest.raises(InvalidField, match="eviction_policy"):
        await SessionManager(client=alice, vm_eviction_policy=f"none/{new_tenant('x')}").user_says("Hello.")


async def test_ids_are_taken_as_applications_have_them(alice: Pagekeeper) -> None:
    ids = ["user:123", "ada+lists@example.org", "C01/1699.12", "..", "issue#7"]
    for session_id in ids:
        session = await alice.open_session(session_id)
        await session.append(user(f"The code of {session_id} is AX7.", page_id="C01/1699.12:1"))
        await session.flush()
        assert (await session.read("C01/1699.12:1")).decode() == f"The code of {session_id} is AX7."
        sm = SessionManager(client=alice, session_id=session_id)
        await sm.user_says("Which code?")
        messages = await sm.get_messages_for_llm()
        assert f'(C01/1699.12:1): "The code of {session_id} is AX7."' in messages[0]["content"]
    assert sorted([session.session_id async for session in alice.list_sessions()]) == sorted(ids)
    await alice.session("..").delete()
    assert (await alice.session("issue#7").get()).page_count == 2


async def test_replicas_speak_in_one_conversation_and_each_hears_all_of_it(alice: Pagekeeper) -> None:
    ones = [SessionManager(client=alice, session_id="several") for _ in range(3)]
    said: list[dict[str, str]] = []
    for number in range(9):
        speaker, answers = ones[number * 2 % 3], number % 3 == 1
        await (speaker.ai_responds(f"Words {number}.") if answers else speaker.user_says(f"Words {number}."))
        said.append({"role": "assistant" if answers else "user", "content": f"Words {number}."})
        for one in ones:
            assert await one.get_messages_for_llm(include_system=False) == said
    stats = [await one.get_stats() for one in ones]
    assert stats[0] == stats[1] == stats[2]
    assert (stats[0].user_messages, stats[0].ai_messages) == (6, 3)


async def test_replicas_that_end_a_segment_at_once_make_one_summary_of_everything(alice: Pagekeeper) -> None:
    async def summarize(messages: list[dict[str, str]]) -> str:
        await asyncio.sleep(0.05)
        return " / ".join(message["content"] for message in messages)

    ones = [
        SessionManager(client=alice, session_id="summed", infinite_context=True, max_turns_per_segment=4)
        for _ in range(3)
    ]
    for one in ones:
        one.set_summary_callback(summarize)
    spoken = []
    for number in range(8):
        words = [f"{number}-{place}" for place in range(3)]
        await asyncio.gather(*(one.user_says(text) for one, text in zip(ones, words, strict=True)))
        spoken += words
    session = ones[0].session
    assert session is not None
    summaries = [page async for page in session.strict().pages(page_type=page_pb2.PAGE_TYPE_SUMMARY)]
    assert [page.metadata["segment"] for page in summaries] == [f"{number}" for number in range(1, len(summaries) + 1)]
    assert [page.pinned for page in summaries] == [False] * (len(summaries) - 1) + [True]
    told = [words for page in summaries for words in (await session.read(page.page_id)).decode().split(" / ")]
    rest = [message["content"] for message in await ones[1].get_messages_for_llm(include_system=False)]
    assert sorted(told + rest) == sorted(spoken), "each message is in one summary, or in the current segment"
    everything = [message["content"] for message in await ones[2].get_conversation()]
    assert told + rest == everything
    assert len(summaries) >= 3


async def test_a_segment_that_ends_again_after_a_restore_has_a_checkpoint_of_its_own(alice: Pagekeeper) -> None:
    sm = SessionManager(client=alice, infinite_context=True, max_turns_per_segment=2)
    await sm.user_says("Where the other way began.")
    beginning = await sm.checkpoint("beginning")
    for way in ("first", "second"):
        await sm.restore_checkpoint(beginning)
        for number in range(3):
            await sm.user_says(f"{way} {number}")
    session = sm.session
    assert session is not None
    ends = [checkpoint async for checkpoint in session.checkpoints() if checkpoint.name == "segment 1"]
    assert len(ends) == len({checkpoint.revision for checkpoint in ends}) == 2
    await sm.restore_checkpoint(ends[1].checkpoint_id)
    said = [message["content"] for message in await sm.get_conversation()]
    assert said == ["Where the other way began.", "second 0"]

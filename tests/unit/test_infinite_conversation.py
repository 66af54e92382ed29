"""InfiniteConversationManager: any id of a conversation names it, and however many segments, nothing is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.client import EventSource, InfiniteConversationManager, SummarizationStrategy
from pagekeeper.core.errors import SessionNotFound
from pagekeeper.memory import PageType

sources = st.sampled_from(EventSource)
texts = st.text(st.characters(codec="utf-8"), max_size=40)


@pytest.mark.parametrize("enable_vm", [False, True], ids=["transcript", "pages"])
@given(said=st.lists(st.tuples(sources, texts), min_size=1, max_size=12), per_segment=st.integers(1, 4))
async def test_every_message_is_kept_in_order_under_every_id(
    *, said: list[tuple[EventSource, str]], per_segment: int, enable_vm: bool
) -> None:
    held = InfiniteConversationManager(10_000, per_segment, enable_vm=enable_vm)
    ids = ["first"]
    for source, text in said:
        ids.append(await held.process_message(ids[-1], text, source))
    chain = await held.get_session_chain("first")
    assert chain == list(dict.fromkeys(ids))
    assert len(chain) == -(-len(said) // per_segment)
    roles = {EventSource.USER: "user", EventSource.LLM: "assistant"}
    for session_id in chain:
        history = await held.get_full_conversation_history(session_id)
        assert history == [(roles[source], source, text) for source, text in said]
        assert await held.get_session_chain(session_id) == chain


async def test_a_context_is_what_came_before_and_the_last_messages() -> None:
    held = InfiniteConversationManager(10_000, 4)
    now_in = "talk"
    for number in range(7):
        source = EventSource.LLM if number % 2 else EventSource.USER
        now_in = await held.process_message(now_in, f"The ferry number {number} leaves at {number} o'clock.", source)
    [summary, *messages] = await held.build_context_for_llm(now_in, max_messages=2)
    assert summary["role"] == "system"
    assert "o'clock" in summary["content"]
    assert [message["content"].split()[3] for message in messages] == ["5", "6"]
    bare = await held.build_context_for_llm("talk", include_summaries=False)
    assert [message["content"].split()[3] for message in bare] == ["4", "5", "6"]
    assert await held.build_context_for_llm(now_in, 0) == [summary]


async def test_a_language_model_is_told_how_to_summarise() -> None:
    asked: list[list[dict[str, str]]] = []

    async def model(messages: list[dict[str, str]]) -> str:
        asked.append(messages)
        return "They greeted each other."

    strategy = SummarizationStrategy.KEY_POINTS
    held = InfiniteConversationManager(5, summarization_strategy=strategy, enable_vm=True)
    await held.process_message("talk", "Good morning to everyone in this room.", EventSource.USER, model)
    now_in = await held.process_message("talk", "And to you.", EventSource.LLM, model)
    assert asked == [
        [
            {"role": "system", "content": strategy.prompt},
            {"role": "user", "content": "Good morning to everyone in this room."},
        ]
    ]
    vm = held.conversation(now_in).vm
    assert vm is not None
    [summary] = [page for page in vm.get_l0_pages() if page.page_type is PageType.SUMMARY]
    assert summary.content == "They greeted each other."


async def test_conversations_are_apart_and_an_unknown_one_is_refused() -> None:
    held = InfiniteConversationManager()
    await held.process_message("a", "For a.", EventSource.USER)
    await held.process_message("b", "For b.", EventSource.USER)
    assert await held.get_full_conversation_history("b") == [("user", EventSource.USER, "For b.")]
    for ask in (held.build_context_for_llm, held.get_session_chain, held.get_full_conversation_history):
        with pytest.raises(SessionNotFound):
            await ask("c")

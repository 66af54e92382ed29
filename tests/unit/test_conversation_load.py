"""Files of others: every accepted shape, and for every refused one the place and the reason."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.corpus import messages
from demo.corpus.load import UnreadableConversation, load_conversations
from demo.corpus.place import ROOT
from demo.corpus.types import Conversation, Recall, Role, ToolCall

USER = {"role": "user", "content": "Which port?"}
ASSISTANT = {"role": "assistant", "content": "8080."}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "talk.json"


def loaded(file: Path, value: object) -> Conversation:
    file.write_text(json.dumps(value), encoding="utf-8")
    (conversation,) = load_conversations(file)
    return conversation


def problem(file: Path, data: object) -> str:
    if isinstance(data, bytes):
        file.write_bytes(data)
    elif isinstance(data, str):
        file.write_text(data, encoding="utf-8")
    else:
        file.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(UnreadableConversation) as caught:
        load_conversations(file)
    message = str(caught.value)
    assert message.startswith(str(file))
    return message.removeprefix(f"{file}: ")


# OpenAI-style messages


def test_an_array_of_messages_becomes_turns(file: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
    conversation = loaded(
        file,
        [
            {"role": "developer", "content": "Be brief."},
            USER,
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "name": "look", "content": "8080"},
            ASSISTANT,
            {"role": "user", "content": [{"type": "text", "text": "Sure?"}, {"type": "text", "text": "Really?"}]},
        ],
    )
    assert [message.text for message in conversation.system] == ["Be brief."]
    first, second = conversation.turns
    assert [message.role for message in first.reply] == [Role.ASSISTANT, Role.TOOL, Role.ASSISTANT]
    assert first.reply[0].tool_calls == (ToolCall("c1", "look", '{"at": 1}'),)
    assert (first.reply[1].tool_call_id, first.reply[1].tool_name) == ("c1", "look")
    assert second.question[0].text == "Sure?\nReally?"
    assert second.reply == ()
    assert [message.page_id for message in conversation.messages()] == [f"m{n:04d}" for n in range(1, 7)]


def test_a_result_without_a_name_is_named_after_its_call(file: Path) -> None:
    calls = [{"id": f"c{n}", "function": {"name": f"look_{n}", "arguments": "{}"}} for n in (1, 2)]
    results = [{"role": "tool", "tool_call_id": f"c{n}", "content": "" if n == 1 else "x"} for n in (1, 2, 3)]
    conversation = loaded(file, [USER, {"role": "assistant", "content": None, "tool_calls": calls}, *results])
    names = [(said.tool_name, said.text) for said in conversation.messages() if said.role is Role.TOOL]
    assert names == [("look_1", ""), ("look_2", "x"), ("", "x")]


def test_speakers_keep_their_names_and_messages_their_times(file: Path) -> None:
    noon = 1_778_241_600_000
    times = [
        "2026-05-08T12:00:00Z",
        "2026-05-08T14:00:00+02:00",
        "2026-05-08T12:00:00",
        noon // 1000,
        noon,
        noon / 1000,
    ]
    said = [{**USER, "name": "Alice", "created_at": time} for time in times] + [{**ASSISTANT, "timestamp": noon}]
    *dated, last = loaded(file, said).messages()
    assert {(message.speaker, message.said_unix_ms) for message in dated} == {("Alice", noon)}
    assert (last.speaker, last.said_unix_ms) == ("", noon)
    odd = [{**USER, "created_at": time} for time in (None, True, -5, 0, "yesterday", 1e300, [1])]
    assert {message.said_unix_ms for message in loaded(file, odd).messages()} == {0}


@given(st.lists(st.none() | st.sampled_from([f"m{n:04d}" for n in range(1, 9)]), min_size=1, max_size=8))
def test_an_id_that_is_made_up_is_no_other_messages(ids: list[str | None]) -> None:
    given_ids = [given_id for given_id in ids if given_id is not None]
    unique = [given_id if given_id and given_ids.count(given_id) < 2 else None for given_id in ids]
    values = [(ROOT / n, USER | ({} if page_id is None else {"id": page_id})) for n, page_id in enumerate(unique)]
    found = [message.page_id for message in messages.read(values, "talk").messages()]
    assert len(set(found)) == len(found) == len(ids)
    assert all(page_id in (None, made) for page_id, made in zip(unique, found, strict=True))


def test_lines_an_object_with_messages_and_a_byte_order_mark_are_read_alike(file: Path) -> None:
    expected = loaded(file, [USER, ASSISTANT]).turns
    assert loaded(file, {"model": "any", "messages": [USER, ASSISTANT]}).turns == expected
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(USER).encode() + b"\r\n\r\n" + json.dumps(ASSISTANT).encode())
    assert load_conversations(file)[0].turns == expected


def test_lines_may_hold_a_conversation_each(file: Path) -> None:
    file.write_text("\n".join(json.dumps({"messages": [USER, ASSISTANT]}) for _ in range(3)), encoding="utf-8")
    assert [conversation.name for conversation in load_conversations(file)] == ["talk 1", "talk 2", "talk 3"]


def test_line_separators_inside_a_text_end_no_line(file: Path) -> None:
    file.write_text(
        json.dumps({"role": "user", "content": "a\u2028b\x85c"}, ensure_ascii=False) + "\n" + json.dumps(ASSISTANT),
        encoding="utf-8",
    )
    assert load_conversations(file)[0].turns[0].question[0].text == "a\u2028b\x85c"


def test_an_id_that_fits_becomes_the_page_id(file: Path) -> None:
    conversation = loaded(file, [USER | {"id": "ask-1"}, ASSISTANT | {"id": "not a page id"}, USER | {"id": 7}])
    assert [message.page_id for message in conversation.messages()] == ["ask-1", "m0002", "m0003"]


def test_media_become_a_line_and_no_data_gets_into_the_text(file: Path) -> None:
    parts = [
        {"type": "text", "text": "Look:"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "QUJD" * 1000}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}},
        {"type": "file", "file": {"filename": "plan.pdf", "file_data": "QUJD"}},
    ]
    text = loaded(file, [{"role": "user", "content": parts}]).turns[0].question[0].text
    assert text.splitlines() == [
        "Look:",
        "[image: image/png, 3,000 bytes]",
        "[image: https://example.org/a.png]",
        "[audio]",
        "[file: plan.pdf]",
    ]


def test_users_who_speak_twice_share_a_turn_unless_nobody_ever_answers(file: Path) -> None:
    assert len(loaded(file, [USER, USER, ASSISTANT, USER]).turns) == 2
    assert len(loaded(file, [USER, USER, USER]).turns) == 3


def test_a_recall_question_is_a_turn_of_its_own_and_its_recorded_reply_is_left_out(file: Path) -> None:
    recall = {"topic": "port", "answer": ["8080"], "decision_message": "m0002"}
    conversation = loaded(file, [USER, ASSISTANT, USER | {"recall": recall}, ASSISTANT, USER])
    assert [turn.recall for turn in conversation.turns] == [None, Recall("port", ("8080",), ("m0002",)), None]
    assert conversation.turns[1].reply == ()


def test_empty_messages_are_left_out_and_a_refusal_is_what_was_said(file: Path) -> None:
    said = loaded(file, [USER, {"role": "assistant", "content": ""}, {"role": "assistant", "refusal": "No."}])
    assert [message.text for message in said.messages()] == ["Which port?", "No."]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([USER, 3], "$[1]: must be a message, an object with role and content, not 3"),
        ([USER, {"content": "x"}], "$[1]: role is missing in an object with the keys 'content'"),
        ([USER, {"role": "robot", "content": "x"}], "$[1].role: must be one of system, developer, user,"),
        ([USER, {"role": "assistant"}], "$[1]: content is missing"),
        ([USER, {"role": "assistant", "content": 5}], "$[1].content: must be a string or an array of parts, not 5"),
        (
            [{"role": "user", "content": [{"type": "hologram"}]}],
            "$[0].content[0]: this content part of type",
        ),
        ([{"role": "user", "content": [7]}], "$[0].content[0]: must be a content part"),
        ([USER, {"role": "tool", "content": "x"}], "$[1]: a message with the role tool needs tool_call_id"),
        ([USER, {"role": "assistant", "tool_calls": "x"}], "$[1].tool_calls: must be an array of tool calls"),
        ([USER, {"role": "assistant", "tool_calls": [{}]}], "$[1].tool_calls[0]: must hold id, function.name"),
        ([USER | {"id": "a"}, USER | {"id": "a"}], "$[1].id: 'a' is the id of $[0] already"),
        ([ASSISTANT], "no message is the user's"),
        ([USER | {"recall": {"topic": "x"}}], "$[0].recall: must hold topic, answer (an array) and decision_message"),
        (
            [USER | {"recall": {"topic": "x", "answer": ["y"], "decision_message": "zz"}}],
            "$[0].recall.decision_message: no earlier message has the id 'zz'",
        ),
        ({"messages": 4}, "$.messages: must be an array of messages, not 4"),
        ([], "the array is empty; expected OpenAI-style messages"),
        ([[1]], "$[0]: expected OpenAI-style messages"),
        (
            {"rows": [], "total": 0},
            "expected OpenAI-style messages (a JSON array or JSON Lines), LoCoMo samples or",
        ),
        ([{"question": "?"}], "$[0]: expected OpenAI-style messages"),
    ],
)
def test_what_is_not_messages_is_refused_with_its_place(file: Path, value: object, expected: str) -> None:
    assert expected in problem(file, value)


def test_the_keys_that_were_found_are_named(file: Path) -> None:
    assert problem(file, {"rows": [], "total": 0}).endswith("found an object with the keys 'rows', 'total'")


# Bytes


def test_an_empty_file_is_named_empty(file: Path) -> None:
    assert problem(file, b"").startswith("the file is empty; expected")
    assert problem(file, b"\xef\xbb\xbf \n").startswith("the file is empty; expected")


def test_a_truncated_file_is_named_truncated(file: Path) -> None:
    whole = json.dumps([USER, ASSISTANT], indent=1)
    assert "line 7: the JSON ends in the middle" in problem(file, whole[: whole.index("assistant") + 4])
    lines = "\n".join(json.dumps(USER) for _ in range(3))
    found = problem(file, lines[:-5])
    assert found.startswith("line 3: the JSON ends in the middle")
    assert "each line must be one complete JSON object" in found


def test_text_that_is_not_json_is_shown(file: Path) -> None:
    assert problem(file, "Dear diary,\nhello").startswith(
        "line 1: not JSON at column 1: Expecting value, found 'Dear diary,'"
    )
    broken = json.dumps(USER) + "\n{role: user}\n"
    assert problem(file, broken).startswith("line 2: not JSON at column 2")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_another_encoding_is_named_with_the_byte(file: Path, mark: bytes) -> None:
    latin = '[{"role": "user",\n"content": "café"}]'.encode("latin-1")
    assert problem(file, mark + latin) == "line 2: byte 16 of the line, 0xe9, is not UTF-8; save the file as UTF-8"


def test_utf16_gzip_directories_missing_and_huge_files_are_refused(file: Path, tmp_path: Path) -> None:
    assert problem(file, json.dumps([USER]).encode("utf-16")) == "the file is UTF-16; save it as UTF-8"
    assert problem(file, b"\x1f\x8b\x08\x00") == "the file is compressed with gzip; unpack it first"
    with pytest.raises(UnreadableConversation, match="this is a directory; name one file"):
        load_conversations(tmp_path)
    with pytest.raises(UnreadableConversation, match="No such file or directory"):
        load_conversations(tmp_path / "none.json")
    file.write_text(json.dumps([USER]), encoding="utf-8")
    with pytest.raises(UnreadableConversation, match="the file has 44 bytes; at most 41 are read"):
        load_conversations(file, bytes_max=41)


def test_hostile_nesting_is_refused(file: Path) -> None:
    assert problem(file, "[" * 200_000) == "not JSON: nested too deeply"


def test_a_message_larger_than_a_page_is_refused(file: Path) -> None:
    expected = "message m0001 has 4,194,305 bytes; a page holds at most 4,194,304"
    assert problem(file, [{"role": "user", "content": "x" * (2**22 + 1)}]) == expected


# LoCoMo


def locomo_sample() -> dict[str, Any]:
    return {
        "sample_id": "conv-0",
        "conversation": {
            "speaker_a": "Ada",
            "speaker_b": "Ben",
            "session_10_date_time": "9:00 am on 2 June, 2023",
            "session_10": [{"speaker": "Ben", "dia_id": "D10:1", "text": "The boat is blue now."}],
            "session_2_date_time": "1:56 pm on 8 May, 2023",
            "session_2": [
                {"speaker": "Ada", "dia_id": "D2:1", "text": "I bought a boat.", "blip_caption": "a boat"},
                {"speaker": "Ben", "dia_id": "D2:2", "text": "What colour?"},
                {"speaker": "Ada", "dia_id": "D2:3", "text": "Red."},
            ],
            "session_3_date_time": "never filled",
        },
        "qa": [
            {"question": "What did Ada buy?", "answer": "a boat", "evidence": ["D2:1"], "category": 4},
            {"question": "Colours?", "answer": "red, blue", "evidence": "['D2:3; D10:01']", "category": "1"},
            {"question": "Whose cat?", "adversarial_answer": "Ada's", "evidence": ["D2:1"], "category": 5},
            {"question": "Mood?", "answer": "happy", "evidence": "[]", "category": 3},
            {"question": "Cut off?", "answer": "x", "evidence": ["D99:1"], "category": 1},
        ],
    }


def test_a_locomo_sample_becomes_dated_turns_in_order_and_questions_at_the_end(file: Path) -> None:
    conversation = loaded(file, [locomo_sample()])
    assert conversation.name == "conv-0"
    assert [(message.page_id, message.role.value, message.text) for message in conversation.messages()] == [
        ("D2-1", "user", "(8 May, 2023) Ada: I bought a boat. [shares a picture: a boat]"),
        ("D2-2", "assistant", "(8 May, 2023) Ben: What colour?"),
        ("D2-3", "user", "(8 May, 2023) Ada: Red."),
        ("D10-1", "assistant", "(2 June, 2023) Ben: The boat is blue now."),
        ("q0001", "user", "What did Ada buy?"),
        ("q0002", "user", "Colours?"),
    ]
    assert [turn.recall for turn in conversation.turns[-2:]] == [
        Recall("category 4", (), ("D2-1",)),
        Recall("category 1", (), ("D2-3", "D10-1")),
    ]


def test_locomo_samples_are_one_conversation_each_and_one_may_stand_alone(file: Path) -> None:
    file.write_text(json.dumps([locomo_sample(), locomo_sample()]), encoding="utf-8")
    assert len(load_conversations(file)) == 2
    assert loaded(file, locomo_sample()).name == "conv-0"


def test_a_broken_locomo_sample_is_refused_with_its_place(file: Path) -> None:
    sample = locomo_sample()
    del sample["conversation"]["session_2"][1]["text"]
    assert problem(file, [sample]).startswith("$[0].conversation.session_2[1]: must hold speaker (Ada or Ben), dia_id")
    sample = locomo_sample()
    sample["conversation"]["session_2"][0]["dia_id"] = "two"
    assert problem(file, [sample]) == "$[0].conversation.session_2[0].dia_id: must look like D1:3, not 'two'"
    assert problem(file, [{"conversation": {}}]).startswith("$[0].conversation: must hold speaker_a, speaker_b")


# BEAM


def beam_chat() -> dict[str, Any]:
    return {
        "id": "beam-0",
        "chat": [
            {
                "batch_number": 1,
                "turns": [
                    [
                        {"role": "user", "id": 0, "content": "Sprint one ends Friday.", "index": "1,1"},
                        {"role": "assistant", "id": 1, "content": "Noted."},
                        {"role": "user", "id": 2, "content": "No, Monday."},
                        {"role": "assistant", "id": 3, "content": "Monday."},
                    ]
                ],
            }
        ],
        "questions": {
            "abstention": [{"question": "Who wins?", "ideal_response": "unknown"}],
            "information_extraction": [{"question": "When?", "answer": "Monday", "source_chat_ids": [2]}],
            "knowledge_update": [
                {"question": "Moved?", "source_chat_ids": {"original_info": [0], "updated_info": [[2], 3]}},
            ],
            "event_ordering": [{"question": "Order?", "source_chat_ids": [0, [2, 77]]}],
        },
    }


def test_a_beam_chat_becomes_turns_and_its_questions_keep_all_their_sources(file: Path) -> None:
    conversation = loaded(file, beam_chat())
    assert [message.page_id for message in conversation.messages()] == [
        "b0000",
        "b0001",
        "b0002",
        "b0003",
        "q0002",
        "q0003",
    ]
    assert [turn.recall for turn in conversation.turns[2:]] == [
        Recall("information_extraction", (), ("b0002",)),
        Recall("knowledge_update", (), ("b0000", "b0002", "b0003")),
    ]


def test_a_broken_beam_chat_is_refused_with_its_place(file: Path) -> None:
    chat = beam_chat()
    chat["chat"][0]["turns"][0][2]["role"] = "oracle"
    assert problem(file, chat).startswith("$.chat[0].turns[0][2]: must hold id (a number), role (user or assistant)")
    assert problem(file, {"chat": 5}).startswith("$.chat: must be an array of batches, not 5")
    chat = beam_chat()
    chat["chat"] *= 2
    assert problem(file, chat) == "$.chat: two messages have the same id"

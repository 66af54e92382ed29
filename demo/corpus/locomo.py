"""A LoCoMo sample as a conversation: dated sessions between two people, then its questions.

The first speaker is the user, the second the assistant. The date of the session stands before each message, because
questions ask for it. Adversarial questions (category 5) and questions without evidence are left out: nothing in the
conversation answers them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from demo.corpus.messages import Item, grouped
from demo.corpus.place import Malformed, Place, as_array, as_object, shown
from demo.corpus.types import Conversation, Message, Recall, Role, Turn

ADVERSARIAL: Final = "5"

_SESSION: Final = re.compile(r"session_(\d+)")
_DIALOGUE_ID: Final = re.compile(r"D:?(\d+):(\d+)")


def read(value: object, place: Place) -> Conversation:
    """The conversation of one sample.

    Raises Malformed.
    """
    sample = as_object(value, place, "a LoCoMo sample")
    inside = place / "conversation"
    talk = as_object(sample.get("conversation"), inside, "an object with sessions")
    items = list(_items(talk, inside, _speakers(talk, inside)))
    known = {message.page_id for message, _ in items}
    if len(known) < len(items):
        raise Malformed(inside, "two turns have the same dia_id")
    conversation = grouped(items, str(sample.get("sample_id", "LoCoMo sample")))
    questions = as_array(sample.get("qa", []), place / "qa", "an array of questions")
    asked = tuple(_questions(questions, place / "qa", known))
    return Conversation(conversation.name, (), conversation.turns + asked)


def _speakers(talk: Mapping[str, object], place: Place) -> Mapping[str, Role]:
    match talk:
        case {"speaker_a": str(first), "speaker_b": str(second)}:
            return {first: Role.USER, second: Role.ASSISTANT}
        case _:
            raise Malformed(place, f"must hold speaker_a, speaker_b and sessions named session_N, not {shown(talk)}")


def _items(talk: Mapping[str, object], place: Place, speakers: Mapping[str, Role]) -> Iterator[Item]:
    for _, key in sorted((int(found[1]), key) for key in talk if (found := _SESSION.fullmatch(key))):
        day = str(talk.get(f"{key}_date_time", "")).rpartition(" on ")[2]
        for index, turn in enumerate(as_array(talk[key], place / key, "an array of turns")):
            yield _message(turn, place / key / index, speakers, day), None


def _message(turn: object, place: Place, speakers: Mapping[str, Role], day: str) -> Message:
    match turn:
        case {"speaker": str(speaker), "dia_id": str(dialogue_id), "text": str(text), **more} if speaker in speakers:
            caption = more.get("blip_caption")
            shared = f" [shares a picture: {caption}]" if caption else ""
            said = f"({day}) {speaker}: {text}{shared}" if day else f"{speaker}: {text}{shared}"
            return Message(_page_id(dialogue_id, place), speakers[speaker], said)
        case _:
            expected = f"speaker ({' or '.join(speakers)}), dia_id and text"
            raise Malformed(place, f"must hold {expected}, not {shown(turn)}")


def _page_id(dialogue_id: str, place: Place) -> str:
    found = _DIALOGUE_ID.fullmatch(dialogue_id)
    if found is None:
        raise Malformed(place / "dia_id", f"must look like D1:3, not {dialogue_id!r:.40}")
    return f"D{int(found[1])}-{int(found[2])}"


def _questions(values: Iterable[object], place: Place, known: set[str]) -> Iterator[Turn]:
    for index, value in enumerate(values):
        match value:
            case {"question": str(question), "category": category, **more}:
                # Some files write the list of evidence as one string, or two ids into one.
                found = _DIALOGUE_ID.findall(str(more.get("evidence", "")))
                evidence = tuple(dict.fromkeys(f"D{int(session)}-{int(turn)}" for session, turn in found))
                if str(category) != ADVERSARIAL and evidence and known.issuperset(evidence):
                    asked = Message(f"q{index + 1:04d}", Role.USER, question)
                    yield Turn((asked,), (), Recall(f"category {category}", (), evidence))
            case _:
                raise Malformed(place / index, f"must hold question, evidence and category, not {shown(value)}")

"""A BEAM chat as a conversation: batches of user and assistant messages, then its questions.

A question's `source_chat_ids` come as an array, nested arrays or an object of arrays; all of them are evidence.
Questions without sources (abstention) are left out: nothing in the chat answers them.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from demo.corpus.messages import Item, grouped
from demo.corpus.place import Malformed, Place, as_array, as_object, shown
from demo.corpus.types import Conversation, Message, Recall, Role, Turn

_ROLES: Final = {"user": Role.USER, "assistant": Role.ASSISTANT}


def read(value: object, place: Place) -> Conversation:
    """The conversation of one chat.

    Raises Malformed.
    """
    chat = as_object(value, place, "a BEAM chat")
    batches = as_array(chat.get("chat"), place / "chat", "an array of batches")
    items: list[Item] = []
    for index, batch in enumerate(batches):
        items.extend((message, None) for message in _batch(batch, place / "chat" / index))
    known = {message.page_id for message, _ in items}
    if len(known) < len(items):
        raise Malformed(place / "chat", "two messages have the same id")
    conversation = grouped(items, str(chat.get("id", "BEAM chat")))
    kinds = as_object(chat.get("questions", {}), place / "questions", "an object with an array of questions a kind")
    asked = tuple(_questions(kinds, place / "questions", known))
    return Conversation(conversation.name, (), conversation.turns + asked)


def _batch(value: object, place: Place) -> Iterator[Message]:
    batch = as_object(value, place, "a batch, an object with turns")
    inside = place / "turns"
    for number, turn in enumerate(as_array(batch.get("turns"), inside, "an array of turns")):
        for index, message in enumerate(as_array(turn, inside / number, "an array of messages")):
            yield _message(message, inside / number / index)


def _message(value: object, place: Place) -> Message:
    match value:
        case {"id": int(number), "role": "user" | "assistant" as role, "content": str(text)}:
            return Message(f"b{number:04d}", _ROLES[role], text)
        case _:
            expected = "id (a number), role (user or assistant) and content (a string)"
            raise Malformed(place, f"must hold {expected}, not {shown(value)}")


def _questions(kinds: Mapping[str, object], place: Place, known: set[str]) -> Iterator[Turn]:
    written = 0
    for kind, values in kinds.items():
        for index, value in enumerate(as_array(values, place / kind, "an array of questions")):
            match value:
                case {"question": str(question), **more}:
                    written += 1
                    evidence = tuple(f"b{number:04d}" for number in sorted(set(_numbers(more.get("source_chat_ids")))))
                    if evidence and known.issuperset(evidence):
                        asked = Message(f"q{written:04d}", Role.USER, question)
                        yield Turn((asked,), (), Recall(kind, (), evidence))
                case _:
                    raise Malformed(place / kind / index, f"must hold question, not {shown(value)}")


def _numbers(sources: object) -> Iterator[int]:
    match sources:
        case int(number):
            yield number
        case list(values):
            for value in values:
                yield from _numbers(value)
        case dict(values):
            for value in values.values():
                yield from _numbers(value)
        case _:
            return

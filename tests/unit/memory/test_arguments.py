"""Every public call refuses what its signature does not have, and its error names the argument."""

import inspect
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, Final, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AliasChoices, BaseModel

import pagekeeper.memory as front
from pagekeeper.core.errors import InvalidField
from pagekeeper.memory import (
    CompressionLevel,
    CompressorRegistry,
    MemoryPage,
    VMMode,
    WorkingSetConfig,
)
from pagekeeper.memory.arguments import checked
from tests.unit.hostile_text import hostile_texts

Call = Callable[..., Any]

ANYTHING: Final = {Any, object}


def is_call(value: object) -> bool:
    """Whether it is a class that is made or a function, and no protocol, enumeration, error or type alias."""
    if inspect.isclass(value):
        return not issubclass(value, Enum | BaseException) and not getattr(value, "_is_protocol", False)
    return inspect.isfunction(value)


CALLS: Final = {name: value for name in front.__all__ if is_call(value := getattr(front, name))}


def parameters(call: Call) -> dict[str, inspect.Parameter]:
    """By the keyword that a caller writes."""
    if inspect.isclass(call) and issubclass(call, BaseModel):
        made = {}
        for name, field in call.model_fields.items():
            alias = field.validation_alias
            keyword = str(alias.choices[0]) if isinstance(alias, AliasChoices) else name
            default = inspect.Parameter.empty if field.is_required() else None
            kind = inspect.Parameter.KEYWORD_ONLY
            made[keyword] = inspect.Parameter(name, kind, default=default, annotation=field.annotation)
        return made
    target = call.__init__ if inspect.isclass(call) else call
    hints = get_type_hints(target)
    return {
        name: each.replace(annotation=hints.get(name, Any))
        for name, each in inspect.signature(target).parameters.items()
        if name != "self" and each.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    }


class Wrong:
    """Of no type that anything here takes."""

    def __repr__(self) -> str:
        return "Wrong()"


def wrong_arguments(call: Call) -> Iterator[tuple[str, object]]:
    """A keyword that does not exist; None where a value is needed; of every typed argument another type."""
    yield "no_such_keyword", 1
    for argument, each in parameters(call).items():
        if each.annotation not in ANYTHING:
            yield argument, Wrong()
            if each.default is inspect.Parameter.empty:
                yield argument, None


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_argument_is_refused_by_its_name(name: str) -> None:
    unnamed = []
    for argument, value in wrong_arguments(CALLS[name]):
        try:
            CALLS[name](**{argument: value})
        except (ValueError, TypeError) as refused:
            if argument in str(refused) or (argument == "no_such_keyword" and "takes no " in str(refused)):
                continue
            unnamed.append(f"{argument}={value!r}: {refused}")
        else:
            unnamed.append(f"{argument}={value!r}: taken")
    assert not unnamed


L: Final[Any] = front
"""Its calls as a program without a type checker writes them."""
PAGE: Final = MemoryPage(page_id="p1", content="The port is 8471.")


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: L.MemoryPage(page_id="p", contents=""),
            "contents is no argument of MemoryPage; did you mean content?",
        ),
        (lambda: L.ContextPackerConfig(max_lines_length=3), "max_lines_length .* did you mean max_line_length?"),
        (lambda: L.ContextPacker(confg=None), "confg is no argument of ContextPacker; did you mean config?"),
        (lambda: L.ContextPacker().pack([PAGE], token_budgt=3), "ContextPacker.pack; did you mean token_budget?"),
        (
            lambda: L.ContextPacker({"quote_text": False}),
            "config must be a ContextPackerConfig, not {'quote",
        ),
        (lambda: L.ContextPacker().pack(PAGE), "pages must be an instance of Sequence, not MemoryPage"),
        (lambda: L.ContextPacker().pack([None]), "pages must be a MemoryPage, not \\[None"),
        (
            lambda: L.ContextPacker().pack([PAGE], -1),
            "token_budget must be greater than or equal to 0, not -1",
        ),
        (lambda: L.MemoryPage(page_id="p", modality="txt"), "'text', 'image', 'audio', 'video' or 'structured'"),
        (lambda: L.MemoryPage(page_id="p", page_type="memo"), "'transcript', "),
        (lambda: L.MemoryPage(page_id="p", compression_level=4), "compression_level"),
        (lambda: L.MemoryPage(page_id="p", importance=1.5), "less than or equal to 1"),
        (lambda: L.TextCompressorConfig(reduced_ratio=0), "greater than 0"),
        (
            lambda: L.PassthroughCompressor("smell"),
            "modality must be 'text', 'image', 'audio', 'video' or 'structured'",
        ),
        (lambda: L.generate_simple_hint(PAGE, "mood"), "hint_type must be 'topic', "),
        (
            lambda: L.build_vm_developer_message("strickt", "{}", ""),
            "mode must be 'strict', 'relaxed' or 'passive'",
        ),
        (
            lambda: L.build_vm_developer_message(VMMode.STRICT, "{}", "", max_faults_per_turn=-1),
            "max_faults_per_turn",
        ),
        (
            lambda: L.PageSearchHandler().search("port", limit=0),
            "limit must be greater than 0, not 0",
        ),
        (lambda: L.PageSearchHandler().search("port", limit=True), "limit must be a valid integer"),
        (lambda: L.PageSearchHandler().search("port", "smell"), "modality must be 'text', 'image'"),
        (lambda: L.VMManifest(session_id="s", pressure="huge"), "'low', 'medium', 'high' or 'critical'"),
        (
            lambda: L.SessionManager(vm_config=WorkingSetConfig()),
            "vm_config is for a virtual memory: add enable_vm=True",
        ),
        (lambda: L.SessionManager(vm_mode="relaxed"), "vm_mode is for a virtual memory: add enable_vm=True, or a cl"),
        (lambda: L.SessionManager(vm_eviction_policy="lru/1"), "vm_eviction_policy is for a virtual memory: add ena"),
        (lambda: L.SessionManager(vm_compressor_registry=CompressorRegistry()), "vm_compressor_registry is for a "),
        (lambda: L.SessionManager(enable_vm=True, vm_mode="stern"), "vm_mode must be 'strict', 'relaxed' or 'passive'"),
        (lambda: L.SessionManager(enable_vm=True, vm_confg=None), "of SessionManager; did you mean vm_config?"),
        (lambda: L.SessionManager.load("a.memory", vm_mode="strict"), "vm_mode is in the file: load without it"),
        (lambda: L.InfiniteConversationManager(vm_config=WorkingSetConfig()), "vm_config is for a virtual memory"),
        (lambda: L.CompressorRegistry().register("text", None), "compressor must be a Compressor, which has "),
    ],
)
def test_the_sentence_says_what_would_be_right(call: Call, sentence: str) -> None:
    with pytest.raises((ValueError, TypeError), match=sentence):
        call()


def test_a_refusal_is_of_the_platforms_kind_and_of_pythons() -> None:
    with pytest.raises(InvalidField) as refused:
        L.ContextPacker(confg=None)
    assert isinstance(refused.value, TypeError)
    assert isinstance(refused.value, ValueError)
    assert refused.value.field == "confg"


async def test_a_coroutine_refuses_when_it_is_awaited() -> None:
    coming = CompressorRegistry.default().compress(None, CompressionLevel.ABSTRACT)  # type: ignore[arg-type]
    with pytest.raises(InvalidField, match="page must be a MemoryPage, not None"):
        await coming


async def test_the_value_of_an_enumeration_is_its_member() -> None:
    result = await CompressorRegistry.default().compress(PAGE, 3)  # type: ignore[arg-type]
    assert result.level_after is CompressionLevel.REFERENCE


@checked
def echo(text: str, *rest: int, flags: dict[str, bool] | None = None, **options: object) -> tuple[object, ...]:
    return text, rest, flags, options


@given(hostile_texts)
def test_what_a_call_is_given_can_be_encoded(text: str) -> None:
    said = echo(text)[0]
    assert isinstance(said, str)
    assert said.encode().decode() == said
    if all(not 0xD800 <= ord(character) <= 0xDFFF for character in text):
        assert said == text


@given(st.text(), st.lists(st.integers()), st.dictionaries(st.text(), st.booleans()))
def test_a_call_that_is_right_is_made_as_it_was_written(text: str, rest: list[int], flags: dict[str, bool]) -> None:
    assert echo(text, *rest, flags=flags, more=rest) == (text, tuple(rest), flags, {"more": rest})
    assert inspect.signature(echo) == inspect.signature(echo.__wrapped__)  # type: ignore[attr-defined]

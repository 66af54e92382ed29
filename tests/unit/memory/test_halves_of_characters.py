"""Half a character in any text: nothing that is kept fails to be encoded, and nothing that a model is sent."""

import inspect
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import Enum
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

import pagekeeper.memory as front
from pagekeeper.memory import (
    CompressionLevel,
    CompressorRegistry,
    ContextPacker,
    ManifestBuilder,
    MemoryPage,
    Modality,
    PageFaultHandler,
    PageSearchHandler,
    StorageTier,
    VMMode,
    build_vm_developer_message,
    generate_simple_hint,
)
from pagekeeper.memory.models.strict import StrictModel

HALF: Final = "cut \ud83d here, caf\udce9"
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
SCALARS: Final[dict[object, object]] = {str: "x", int: 1, float: 0.5, bool: True, bytes: b"x", datetime: NOW, Any: "x"}

MODELS: Final[dict[str, type[BaseModel]]] = {
    name: value
    for name in front.__all__
    if inspect.isclass(value := getattr(front, name)) and issubclass(value, StrictModel)
}


def sample(annotation: Any, text: str) -> object:  # noqa: ANN401 - any annotation of a field
    """A value of that type, with `text` wherever a text may stand."""
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation is str or annotation is Any:
        return text
    if annotation in SCALARS:
        return SCALARS[annotation]
    if origin in (Union, UnionType):
        return sample(str if str in args else args[0], text)
    if origin is Literal:
        return args[0]
    if origin in (list, set, tuple):
        return origin(sample(each, text) for each in args if each is not ...)
    if origin in (dict, Mapping):
        return {sample(args[0], text): sample(args[1], text)}
    if origin is Callable or annotation is Callable:
        return len
    if inspect.isclass(annotation) and issubclass(annotation, Enum):
        return next(iter(annotation))
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return {
            name: sample(field.annotation, text)
            for name, field in annotation.model_fields.items()
            if field.is_required()
        }
    return None


TEXTS: Final = [
    (name, field)
    for name, model in MODELS.items()
    for field, known in model.model_fields.items()
    if re.search(r"\bstr\b|\bAny\b", str(known.annotation)) and "Callable" not in str(known.annotation)
]


@pytest.mark.parametrize(("name", "field"), TEXTS)
def test_a_model_keeps_what_can_be_encoded(name: str, field: str) -> None:
    model = MODELS[name]
    fields = {each: sample(known.annotation, "x") for each, known in model.model_fields.items() if known.is_required()}
    fields[field] = sample(model.model_fields[field].annotation, HALF)
    kept = model.model_validate(fields)
    assert "cut \N{REPLACEMENT CHARACTER} here" in str(kept.model_dump())
    assert str(kept.model_dump()).encode()
    assert repr(kept).encode()


HURT: Final = [
    MemoryPage(page_id=f"p1{HALF}", content=HALF, metadata={"role": "user", "topic": HALF}),
    MemoryPage(page_id="p2", modality=Modality.STRUCTURED, content={HALF: [HALF, {"a": (HALF,)}]}),
    MemoryPage(page_id="p3", modality=Modality.IMAGE, caption=HALF, metadata={"scenes": [HALF]}),
    MemoryPage(page_id="p4", modality=Modality.AUDIO, transcript=HALF, storage_tier=StorageTier.L2),
]


async def test_what_a_model_is_sent_can_be_encoded() -> None:
    builder, search, registry = ManifestBuilder(session_id=HALF), PageSearchHandler(), CompressorRegistry.default()
    for page in HURT:
        builder.add_working_set_page(page)
        builder.add_available_page(page, hint=HALF)
        assert generate_simple_hint(page).encode()
        for level in CompressionLevel:
            assert ContextPacker().format_page((await registry.compress(page, level)).page).content.encode()
        assert PageFaultHandler().build_tool_result(page).model_dump_json().encode()
    manifest = builder.build().model_dump_json()
    message = build_vm_developer_message(VMMode.STRICT, manifest, ContextPacker().pack(HURT).content, HALF)
    assert manifest.encode()
    assert message.encode()
    assert HALF.encode("utf-8", "replace").decode().replace("?", "\N{REPLACEMENT CHARACTER}") in message
    search.available_pages = builder.available_pages
    assert (await search.search(HALF)).model_dump_json().encode()


def test_two_halves_that_follow_one_another_are_one_character() -> None:
    assert MemoryPage(page_id="p", content="\ud83d\ude00").content == "\N{GRINNING FACE}"

"""Pictures, sounds and films: what they look like and say is made in the background; their bytes stay."""

import asyncio
import os
import sys
from io import BytesIO
from pathlib import Path

import pytest

from pagekeeper.client import Pagekeeper, Session, user
from pagekeeper.core.errors import InvalidField
from pagekeeper.local.stack import LocalStack
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2
from tests.servers import eventually
from tests.stacks import client, new_tenant
from tests.unit.films import film, song

image = pytest.importorskip("PIL.Image")

pytestmark = pytest.mark.xdist_group("stacks")

REDUCED = 1


def picture(width: int, height: int, file_format: str) -> bytes:
    data = BytesIO()
    image.linear_gradient("L").resize((width, height)).convert("RGB").save(data, file_format)
    return data.getvalue()


PHOTO = picture(1_600, 900, "PNG")
COVER = picture(300, 300, "JPEG")
WALK = film(10, (200, 30, 30), said=["The spare key is under the blue flowerpot.", "Bring two lanterns."])
NOCTURNE = song(COVER, tags={"title": "Nocturne in the rain", "artist": "The Ferrymen"})
MEDIA = [
    page_pb2.PageInput(
        page_id="photo",
        modality=page_pb2.MODALITY_IMAGE,
        data=PHOTO,
        mime_type="image/png",
        media=page_pb2.MediaDescription(caption="The harbour at dawn"),
    ),
    page_pb2.PageInput(page_id="walk", modality=page_pb2.MODALITY_VIDEO, data=WALK, mime_type="video/x-matroska"),
    page_pb2.PageInput(page_id="song", modality=page_pb2.MODALITY_AUDIO, data=NOCTURNE, mime_type="audio/flac"),
    page_pb2.PageInput(page_id="noise", modality=page_pb2.MODALITY_AUDIO, data=b"\x00no sound at all" * 9),
]
BYTES = {page.page_id: page.data for page in MEDIA}


@pytest.fixture
async def session(alice: Pagekeeper) -> Session:
    """With media whose lower levels the background has made."""
    session = await alice.open_session()
    await session.append(user("Keep these, please."), *MEDIA)

    async def looked_at() -> bool:
        pages = [await session.page(page_id) for page_id in ("photo", "walk", "song")]
        return all(len(page.representations) > 1 for page in pages)

    await eventually(looked_at, timeout_seconds=120)  # the processes that decode have the lowest priority
    return session


def size(preview: page_pb2.MediaPreview | None) -> tuple[int, int]:
    assert preview is not None
    with image.open(BytesIO(preview.data)) as opened:
        opened.load()
        assert opened.get_format_mimetype() == preview.mime_type
        width, height = opened.size
        return width, height


async def test_media_are_shown_and_their_bytes_stay(session: Session) -> None:
    for page_id, data in BYTES.items():
        assert await session.read(page_id) == data
    assert size(await session.preview("photo")) == (512, 288)
    assert size(await session.preview("walk")) == (256, 128)
    assert size(await session.preview("song")) == (300, 300)
    assert await session.preview("noise") is None
    levels = {r.level: r.preview_mime_type for r in (await session.page("photo")).representations}
    assert levels == {0: "", REDUCED: "image/jpeg"}
    assert (await session.replay()).matches_served_state


async def test_what_they_say_themselves_is_read_and_found(session: Session) -> None:
    assert (await session.read("photo", level=REDUCED)).decode() == "The harbour at dawn"
    walk = (await session.read("walk", level=REDUCED)).decode()
    assert "0:02 scene, mostly red" in walk
    assert "spare key" in walk
    assert (await session.read("song", level=REDUCED)).decode() == "Nocturne in the rain, The Ferrymen"
    assert (await session.search("Where is the spare key?"))[0].page_id == "walk"
    assert (await session.search("Ferrymen"))[0].page_id == "song"


async def test_a_fault_brings_the_preview_with_the_text(alice: Pagekeeper) -> None:
    session = await alice.open_session(max_l0_tokens=2_000, pin_last_turns=1, eviction_policy="lru/1")
    await session.append(*MEDIA[:2])
    await session.compress("photo", "walk")
    for turn in range(30):
        await session.append(user(f"{turn}: " + "the plants on this floor want water and the others do not. " * 6))
    assert "walk" not in {page.page_id for page in (await session.assemble()).pages}
    faulted = await session.fault("walk", target_level=REDUCED)
    assert faulted.outcome.level == REDUCED
    assert "spare key" in faulted.content.text
    assert size(faulted.content.preview) == (256, 128)
    assert faulted.content.text.encode() == await session.read("walk", level=REDUCED)
    prompt = await session.assemble()
    [resident] = [page for page in prompt.pages if page.page_id == "walk"]
    assert resident.level == REDUCED
    assert "spare key" in "".join(message.content for message in prompt.messages)
    assert prompt.tokens.total <= prompt.tokens.budget
    full = await session.fault("walk", target_level=0)
    assert full.content.data == WALK
    assert not full.content.HasField("preview")


async def test_words_and_faults_bring_what_only_the_bytes_say(alice: Pagekeeper) -> None:
    """Its full line says that there is a film; the model asks, and is told what is said in it."""
    session = await alice.open_session()
    await session.append(user("Look at this."), MEDIA[1])
    await session.compress("walk")
    assert "spare key" not in "".join(message.content for message in (await session.assemble()).messages)
    call = pb.ToolCall(id="c1", name="page_fault", arguments_json='{"page_id": "walk", "target_level": 1}')
    [told] = await session.handle_tool_calls(call)
    assert "spare key" in told.content
    assert "spare key" in "".join(message.content for message in (await session.assemble()).messages)
    assert not (await session.fault("walk", target_level=REDUCED)).outcome.promoted

    forgetful = await alice.open_session(max_l0_tokens=2_000, pin_last_turns=1, eviction_policy="lru/1")
    await forgetful.append(MEDIA[1])
    await forgetful.compress("walk")
    for turn in range(30):
        await forgetful.append(user(f"{turn}: " + "the plants on this floor want water and the others do not. " * 6))
    assert "walk" not in {page.page_id for page in (await forgetful.assemble()).pages}
    asked = await forgetful.assemble(user_input="Where did she say that the spare key is?", budget_tokens=2_500)
    assert "blue flowerpot" in asked.messages[-1].content
    assert asked.tokens.total <= 2_500


async def test_a_range_is_one_of_the_text_and_the_preview_comes_with_its_beginning(
    alice: Pagekeeper, session: Session
) -> None:
    text = await session.read("walk", level=REDUCED)

    async def part(offset: int, length: int) -> pb.ReadPageResponse:
        request = pb.ReadPageRequest(
            session_id=session.session_id, page_id="walk", level=REDUCED, offset=offset, length=length
        )
        return await alice.api.read_page(alice.caller(), request)

    first, rest = await part(0, 5), await part(5, 0)
    assert (first.content.text + rest.content.text).encode() == text
    assert first.total_bytes == rest.total_bytes == len(text)
    assert first.content.HasField("preview")
    assert not rest.content.HasField("preview")
    with pytest.raises(InvalidField) as beyond:
        await part(len(text) + 1, 0)
    assert beyond.value.metadata == {"field": "offset"}


async def test_a_fork_has_them_too(session: Session) -> None:
    await session.flush()
    fork = await session.fork()
    assert await fork.preview("photo") == await session.preview("photo")
    assert await fork.read("walk") == WALK


async def test_the_command_line_writes_a_preview(stack: LocalStack, tmp_path: Path) -> None:
    tenant = new_tenant("alice")
    async with client(stack, tenant) as pagekeeper:
        session = await pagekeeper.open_session()
        await session.append(*MEDIA)
        await session.compress("photo")
        env = {**os.environ, "PK_ENDPOINT": stack.endpoint, "PK_TOKEN": stack.token(tenant)}

        async def show(page_id: str) -> tuple[int | None, str]:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "pagekeeper.app", "page", "show", session.session_id, page_id),
                *("--preview", str(tmp_path / page_id)),
                env=env,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            output, _ = await process.communicate()
            return process.returncode, output.decode()

        code, output = await show("photo")
        assert (code, "with a preview: image/jpeg" in output) == (0, True), output
        assert (tmp_path / "photo").read_bytes() == (await session.preview("photo")).data  # type: ignore[union-attr]
        code, output = await show("noise")
        assert (code, "page 'noise' has no preview" in output) == (1, True), output
        assert not (tmp_path / "noise").exists()

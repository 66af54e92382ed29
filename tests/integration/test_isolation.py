"""Another tenant's ids are answered exactly like ids that do not exist, on every RPC that the descriptor lists."""

import re
from typing import Any

import pytest

from pagekeeper.client import Pagekeeper, user
from pagekeeper.core.errors import PagekeeperError, SessionNotFound
from pagekeeper.runtime.rpc.methods import Method, methods
from tests.integration.requests import SERVICE, filled

pytestmark = pytest.mark.xdist_group("stacks")

METHODS = methods(SERVICE)
WITHOUT_A_SESSION = frozenset({"OpenSession", "ListSessions"})


async def call(pagekeeper: Pagekeeper, method: Method, request: Any) -> Any:  # noqa: ANN401 - whichever RPC it is
    invoke = getattr(pagekeeper.api, method.attribute)
    if method.streams:
        return [part async for part in invoke(pagekeeper.caller(), request)]
    return await invoke(pagekeeper.caller(), request)


@pytest.mark.parametrize("method", [m for m in METHODS if m.name not in WITHOUT_A_SESSION], ids=lambda m: m.name)
async def test_a_foreign_session_is_a_missing_one(method: Method, alice: Pagekeeper, mallory: Pagekeeper) -> None:
    session = await alice.open_session()
    appended = await session.append(user("hello, this is alice's secret"))
    checkpoint = await session.checkpoint("a secret name")
    page_id = appended.pages[0].page_id

    def request(session_id: str) -> Any:  # noqa: ANN401 - whichever RPC it is
        return filled(method.request, session_id, page_id, checkpoint.checkpoint_id)

    with pytest.raises(PagekeeperError) as foreign:
        await call(mallory, method, request(session.session_id))
    with pytest.raises(PagekeeperError) as missing:
        await call(mallory, method, request("no-such-session"))
    assert type(foreign.value) is type(missing.value) is SessionNotFound
    assert _without_ids(str(foreign.value)) == _without_ids(str(missing.value))
    assert set(foreign.value.metadata) == set(missing.value.metadata)

    # The session is untouched, and the very same request is a good one for its owner.
    before = await session.get()
    await call(alice, method, request(session.session_id))
    assert before.revision <= (await _revision_after(alice, session.session_id))


async def test_a_list_shows_only_the_tenants_own(alice: Pagekeeper, mallory: Pagekeeper) -> None:
    session = await alice.open_session()
    assert session.session_id in {one.session_id async for one in alice.list_sessions()}
    assert session.session_id not in {one.session_id async for one in mallory.list_sessions()}


async def test_two_tenants_may_use_one_id(alice: Pagekeeper, mallory: Pagekeeper) -> None:
    session = await alice.open_session()
    await session.append(user("alice's"))
    same = await mallory.open_session(session.session_id)
    await same.append(user("mallory's", page_id="p"))
    assert [page.page_id async for page in same.pages()] == ["p"]
    assert await same.read("p") == b"mallory's"


async def _revision_after(pagekeeper: Pagekeeper, session_id: str) -> int:
    try:
        return (await pagekeeper.session(session_id).get()).revision
    except SessionNotFound:
        return 2**63  # it was DeleteSession's turn


def _without_ids(text: str) -> str:
    return re.sub(r"'[^']*'", "'...'", text)

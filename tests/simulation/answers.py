"""What clients are told, held against what the oracle knows.

Of a read: it shows the session as it was at the revision that it names, which is none older than was asked for.
Of a mutation: it lies in the log at the revision that was answered, or there was nothing to do.
Of a refusal: what it says was so at some time during the call.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

from pagekeeper.core import errors
from pagekeeper.core.effects import decisions_digest
from pagekeeper.runtime import codec
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2, session_pb2
from tests.simulation.oracle import Facts, Truth
from tests.simulation.programs import Call, mark_of
from tests.simulation.violations import check
from tests.simulation.world import World

MAY_BE_NOTHING: Final = frozenset(
    {
        "pin_pages",
        "unpin_pages",
        "link_pages",
        "annotate_page",
        "set_importance",
        "fault_page",
        "configure_session",
        "close_session",
    }
)
OF_SEVERAL: Final = frozenset({"fault_pages", "handle_tool_calls", "compress_pages"})
"""These answer the newest of several revisions, or none."""
OF_THE_PAST: Final = frozenset({"get_context_at"})
"""These answer the revision that was asked for, however new the session must be."""
OF_CONTENT: Final = frozenset({"fault_page"})
"""A fault of a page that is resident already writes nothing, and reads nothing from the log: any replica whose state is
as new as `min_revision` answers the fault, as it answers a read. So an old replica may answer at a revision where the
page was resident, though the page has left since, and so may the repetition of a fault be answered that another replica
carried out. Seeds 111 and 265 have such answers. The page must be shown as it was resident at the revision answered."""
OF_A_COPY: Final = frozenset({"get_session", "get_stats", "list_pages", "get_page", "assemble_prompt"})
"""Answered from a replica's copy of a session, which may lack what was appended in the last UNHEARD_SECONDS_MAX."""
WITH_SESSION: Final = frozenset({"open_session", "get_session", "configure_session", "close_session", "fork_session"})
TENANTS: Final = ("acme", "globex")


def revision_of(call: Call, answer: Any) -> int:  # noqa: ANN401 - a response
    """The revision that an answer names; 0 for none."""
    if call.method in WITH_SESSION:
        return int(answer.session.revision)
    return int(getattr(answer, "revision", 0))


def check_answer(world: World, call: Call, answer: Any, floor: int, at_start: int) -> None:  # noqa: ANN401 - a response
    """`floor`: what was acknowledged before the call; `at_start`: the session's true revision then."""
    where = f"{call.method} of {call.key.tenant}/{call.key.session}"
    sent = answer.SerializeToString()
    for tenant in TENANTS:
        check(tenant == call.key.tenant or mark_of(tenant).encode() not in sent, f"{where}: shows {tenant}'s pages")
    truth = world.log.truths.get(call.key)
    check(truth is not None, f"{where}: answered, and there is no such session")
    assert truth is not None
    revision = revision_of(call, answer)
    if call.mutates:
        _check_mutation(call, answer, truth, revision, floor)
    if call.method == "read_page":
        check_bytes(answer.content, truth)
    if not revision:
        return
    check(revision in truth.facts, f"{where}: revision {revision} never was")
    if call.method not in OF_THE_PAST:
        wanted = getattr(call.request, "min_revision", 0)
        check(revision >= wanted, f"{where}: answered revision {revision}, asked for {wanted}")
        if getattr(call.request, "strict", False):
            check(revision >= floor, f"{where}: a strict read answered revision {revision}, older than {floor}")
    compare = _COMPARISONS.get(call.method)
    if compare is not None:
        compare(call, answer, truth, truth.facts[revision])
    if call.method == "replay_session" and at_start == revision == truth.revision:
        check(answer.decisions_digest == decisions_digest(truth.effects), f"{where}: other decisions")
        check(answer.state_digest == codec.state_digest(truth.session), f"{where}: another state")
        check(answer.matches_served_state, f"{where}: the served state is another")


def _check_mutation(call: Call, answer: Any, truth: Truth, revision: int, floor: int) -> None:  # noqa: ANN401
    where = f"{call.method} {call.operation_id} of {call.key.tenant}/{call.key.session}"
    done = truth.operations.get(call.operation_id)
    if call.method in OF_SEVERAL:
        return
    if done is None:
        check(call.method in MAY_BE_NOTHING, f"{where}: acknowledged at {revision}, and not in the log")
        if call.method in OF_CONTENT:
            _check_hit(where, answer, truth.facts[revision])
        else:
            check(
                revision >= floor, f"{where}: nothing to do at revision {revision}, but {floor} was acknowledged before"
            )
    elif call.method in WITH_SESSION:
        check(revision >= done, f"{where}: acknowledged at {revision}, done at {done}")
    elif call.method in OF_CONTENT and revision < done:
        _check_hit(where, answer, truth.facts[revision])
    else:
        check(revision == done, f"{where}: acknowledged at {revision}, done at {done}")
    if call.method == "append_pages":
        for page, appended in zip(call.request.pages, answer.pages, strict=True):
            content = page.data or page.text.encode()
            digest = truth.digests[appended.page_id, appended.version, 0]
            check(digest == sha256(content).digest(), f"{where}: {appended.page_id} has other bytes than were sent")
            if not page.page_id:
                _check_ordinal(where, appended.page_id, list(truth.session.pages))


def _check_hit(where: str, answer: pb.FaultPageResponse, facts: Facts) -> None:
    """A fault that changed nothing: its page was resident then, at the level whose content was answered."""
    content = answer.content
    resident = facts.resident.get(content.page_id)
    check(resident == (content.version, content.level), f"{where}: {content.page_id} was resident as {resident}")


def _check_ordinal(where: str, page_id: str, known: Sequence[str]) -> None:
    """An id that a session made is the page's place in it, or, where another page has that id, the next free one."""
    if page_id not in known:
        return  # the session is deleted
    place, ordinal = 1 + known.index(page_id), int(page_id.removeprefix("p"))
    passed_over = {f"p{number}" for number in range(place, ordinal)}
    check(place <= ordinal and passed_over <= set(known), f"{where}: the {place}th page is called {page_id}")


def check_refusal(world: World, call: Call, refusal: errors.PagekeeperError, floor: int) -> None:
    where = f"{call.method} {call.operation_id} of {call.key.tenant}/{call.key.session}"
    truth = world.log.truths.get(call.key)
    since = [facts for revision, facts in truth.facts.items() if revision >= floor] if truth else []
    match refusal:
        case errors.InternalError():
            check(holds=False, otherwise=f"{where}: {refusal.message} ({refusal.__cause__!r})")
        case errors.RequestIdReused():
            check(holds=False, otherwise=f"{where}: {refusal.message}")
        case errors.SessionNotFound() if call.method != "fork_session":
            check(not floor or not all(facts.exists for facts in since), f"{where}: {refusal.message}")
        case errors.SessionClosed():
            check(any(facts.closed for facts in since), f"{where}: {refusal.message}")
        case errors.PageNotFound() if floor and call.method != "fork_session":
            page_id = refusal.metadata.get("page_id", "")
            check(not all(page_id in facts.mapped for facts in since), f"{where}: {refusal.message}")
        case errors.RevisionNotFound() if call.method not in ("restore_checkpoint", "fork_session"):
            check(holds=False, otherwise=f"{where}: {refusal.message}")
        case _:
            pass


def check_bytes(content: page_pb2.PageContent, truth: Truth) -> None:
    """The bytes are those that were stored."""
    data = content.data if content.WhichOneof("content") == "data" else content.text.encode()
    address = (content.page_id, content.version, content.level)
    check(address in truth.digests, f"{address} has no bytes, and some were answered")
    check(truth.digests[address] == sha256(data).digest(), f"{address}: other bytes than were stored")


def _residents(call: Call, pages: Any, facts: Facts) -> None:  # noqa: ANN401 - repeated pages
    shown = {page.page_id: (page.version, page.level) for page in pages}
    check(shown == facts.resident, f"{call.method}: resident are {facts.resident}, shown were {shown}")


def _session(call: Call, answer: Any, _: Truth, facts: Facts) -> None:  # noqa: ANN401
    shown: session_pb2.Session = answer.session
    check(shown.turn == facts.turn, f"{call.method}: the turn is {facts.turn}, not {shown.turn}")
    check(shown.page_count == len(facts.mapped), f"{call.method}: there are {len(facts.mapped)} pages")


def _stats(call: Call, answer: Any, _: Truth, facts: Facts) -> None:  # noqa: ANN401
    stats: session_pb2.SessionStats = answer.stats
    check(stats.used_tokens == facts.used_tokens, f"{call.method}: {facts.used_tokens} tokens are used")
    check(stats.resident_pages == len(facts.resident), f"{call.method}: {len(facts.resident)} pages are resident")
    check(stats.total_pages == len(facts.mapped), f"{call.method}: there are {len(facts.mapped)} pages")


def _context(call: Call, answer: Any, _: Truth, facts: Facts) -> None:  # noqa: ANN401
    _residents(call, answer.pages, facts)


def _prompt(call: Call, answer: Any, _: Truth, facts: Facts) -> None:  # noqa: ANN401
    budget = call.request.budget_tokens - call.request.reserve_tokens
    check(not call.request.budget_tokens or answer.tokens.total <= budget, f"{answer.tokens.total} tokens for {budget}")
    check(answer.turn == facts.turn, f"{call.method}: the turn is {facts.turn}, not {answer.turn}")
    parts = answer.tokens
    total = parts.rules + parts.context + parts.manifest + parts.input + parts.tools + parts.framing
    check(total == parts.total, f"{call.method}: the parts of a prompt are {total} tokens, together {parts.total}")
    recalled = set(answer.recalled_page_ids)
    check(not recalled & facts.resident.keys(), f"{call.method}: resident pages are not recalled")
    for page in answer.pages:
        version, level = facts.resident.get(page.page_id, (0, 0))
        if page.page_id in recalled:
            version, level = facts.mapped.get(page.page_id, 0), 0
        check(version == page.version and level <= page.level, f"{call.method}: {page.page_id} is not resident so")


def _page(call: Call, answer: Any, _: Truth, facts: Facts) -> None:  # noqa: ANN401
    page: page_pb2.Page = answer.page
    check(facts.mapped.get(page.page_id) == page.version, f"{call.method}: {page.page_id} is not at {page.version}")


def _pages(call: Call, answer: Any, _: Truth, facts: Facts) -> None:  # noqa: ANN401
    shown = {page.page_id: page.version for page in answer.pages}
    check(shown == facts.mapped, f"{call.method}: other pages than there are: {shown.keys() ^ facts.mapped.keys()}")


def _fault(_: Call, answer: Any, truth: Truth, __: Facts) -> None:  # noqa: ANN401
    check_bytes(answer.content, truth)


def _faults(_: Call, answer: Any, truth: Truth, __: Facts) -> None:  # noqa: ANN401
    for item in answer.items:
        if item.HasField("fault"):
            check_bytes(item.fault.content, truth)


_COMPARISONS: Final = {
    "open_session": _session,
    "get_session": _session,
    "get_stats": _stats,
    "get_context_at": _context,
    "assemble_prompt": _prompt,
    "get_page": _page,
    "list_pages": _pages,
    "fault_page": _fault,
    "fault_pages": _faults,
}

"""What clients do: any public call, with what they know of their tenant's sessions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from google.protobuf.message import Message

from pagekeeper.core.ids import SessionId, SessionKey, TenantId
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2, session_pb2

SENTENCE: Final = (
    "the route of a parcel changes when its driver finds that the road is closed and calls the depot for another one "
    "which costs twenty minutes and a tank of fuel but saves the customer from waiting until tomorrow"
)
WORDS: Final = SENTENCE.split()
LARGE_BYTES: Final = 70_000
"""Above what travels in the log."""


@dataclass(frozen=True, slots=True)
class Call:
    method: str
    key: SessionKey
    request: Any
    """A message, unchanged by whoever sends it."""
    mutates: bool

    @property
    def operation_id(self) -> str:
        return str(self.request.request_id) if self.mutates else ""


@dataclass(slots=True)
class Known:
    """What a tenant's clients know of a session."""

    page_ids: list[str] = field(default_factory=list)
    kinds: dict[str, page_pb2.PageInput] = field(default_factory=dict)
    checkpoint_ids: list[str] = field(default_factory=list)
    revisions: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Book:
    """What a tenant's clients know of all their sessions."""

    tenant: TenantId
    sessions: dict[str, Known] = field(default_factory=dict)

    def known(self, session_id: str) -> Known:
        """What is known of a session; nothing of one that nobody has opened yet."""
        return self.sessions.get(session_id, Known())


def mark_of(tenant: str) -> str:
    """A word that every page of the tenant has and no other tenant may ever see."""
    return f"only{tenant}"


class Program:
    """One client's endless program."""

    def __init__(self, name: str, book: Book, dice: Random) -> None:
        self.name = name
        self.book = book
        self.dice = dice
        self._calls = 0

    def opening(self, session_id: str) -> Call:
        limit = self.dice.choice((600, 900, 1_500))
        config = session_pb2.SessionConfig(
            max_l0_tokens=limit,
            reserved_tokens=100,
            max_faults_per_turn=self.dice.choice((3, 20)),
            pin_last_turns=self.dice.choice((1, 3)),
        )
        return self._mutation("open_session", session_id, pb.OpenSessionRequest(config=config))

    def next_call(self) -> Call:
        if self.dice.random() < 0.02:
            return self.opening(f"s{self.dice.randrange(4)}")
        # Most is done to one session, which is full soon; little to one that was never opened by this tenant.
        session_id = "s9" if self.dice.random() < 0.04 else min(self.dice.choices(list(self.book.sessions), k=2))
        make = self.dice.choices(_MAKERS, _WEIGHTS)[0]
        return make(self, session_id, self.book.known(session_id))

    def append(self, session_id: str, known: Known) -> Call:
        pages = [self._page(known) for _ in range(self.dice.choice((1, 1, 1, 2, 4)))]
        request = pb.AppendPagesRequest(pages=pages)
        return self._mutation("append_pages", session_id, request, expects=True)

    def _page(self, known: Known) -> page_pb2.PageInput:
        dice = self.dice
        page = page_pb2.PageInput(
            role=dice.choice(_ROLES), page_type=dice.choice(_TYPES), importance=dice.choice((0.1, 0.5, 0.9))
        )
        page.modality = dice.choices(_MODALITIES, (80, 15, 5))[0]
        if known.kinds and dice.random() < 0.1:
            page.new_version, page.page_id = True, dice.choice(list(known.kinds))
            kind = known.kinds[page.page_id]
            page.modality, page.role = kind.modality, kind.role
        elif dice.random() < 0.3:
            page.page_id = f"p{dice.randrange(40)}"
        page.pinned = dice.random() < 0.05
        if known.page_ids and dice.random() < 0.1:
            link = page_pb2.PageLink(kind=page_pb2.LINK_KIND_DERIVED_FROM, target_page_id=dice.choice(known.page_ids))
            page.links.append(link)
        mark = mark_of(self.book.tenant)
        if page.modality == page_pb2.MODALITY_IMAGE:
            size = LARGE_BYTES if dice.random() < 0.1 else dice.randrange(1_000, 30_000)
            page.data = mark.encode() + dice.randbytes(size)
            page.media.caption = f"{mark} {self._unique()} picture"
        elif page.modality == page_pb2.MODALITY_STRUCTURED:
            page.text = f'{{"{self._unique()}": "{mark}", "n": [1, 2, {dice.randrange(99)}]}}'
        else:
            said = " ".join(dice.choice(WORDS) for _ in range(dice.choice((5, 20, 60, 150))))
            page.text = f"{mark} {self._unique()} {said}."
            if dice.random() < 0.01:
                page.text += " and so on" * (LARGE_BYTES // 10)
        return page

    def _unique(self) -> str:
        self._calls += 1
        return f"{self.name}x{self._calls}q"

    def begin_turn(self, session_id: str, _: Known) -> Call:
        return self._mutation("begin_turn", session_id, pb.BeginTurnRequest(), expects=True)

    def fault(self, session_id: str, known: Known) -> Call:
        request = pb.FaultPageRequest(page_id=self._page_id(known), target_level=self.dice.choice((0, 0, 1, 3)))
        return self._mutation("fault_page", session_id, request, reads=True)

    def fault_many(self, session_id: str, known: Known) -> Call:
        request = pb.FaultPagesRequest(page_ids=[self._page_id(known) for _ in range(3)])
        return self._mutation("fault_pages", session_id, request, reads=True)

    def tool_calls(self, session_id: str, known: Known) -> Call:
        calls = [
            pb.ToolCall(id="1", name="page_fault", arguments_json=f'{{"page_id": "{self._page_id(known)}"}}'),
            pb.ToolCall(id="2", name="search_pages", arguments_json='{"query": "parcel depot"}'),
        ]
        return self._mutation("handle_tool_calls", session_id, pb.HandleToolCallsRequest(calls=calls), reads=True)

    def pin(self, session_id: str, known: Known) -> Call:
        return self._mutation(
            "pin_pages", session_id, pb.PinPagesRequest(page_ids=[self._page_id(known)]), expects=True
        )

    def unpin(self, session_id: str, known: Known) -> Call:
        request = pb.UnpinPagesRequest(page_ids=[self._page_id(known)])
        return self._mutation("unpin_pages", session_id, request, expects=True)

    def importance(self, session_id: str, known: Known) -> Call:
        request = pb.SetImportanceRequest(page_id=self._page_id(known), importance=self.dice.choice((0.1, 0.9)))
        return self._mutation("set_importance", session_id, request, expects=True)

    def annotate(self, session_id: str, known: Known) -> Call:
        request = pb.AnnotatePageRequest(page_id=self._page_id(known))
        if self.dice.random() < 0.5:
            request.hint = f"{mark_of(self.book.tenant)} hint {self._unique()}"
        else:
            request.metadata[self.dice.choice("abc")] = self.dice.choice(("", "x", "y"))
        return self._mutation("annotate_page", session_id, request, expects=True)

    def link(self, session_id: str, known: Known) -> Call:
        link = page_pb2.PageLink(kind=page_pb2.LINK_KIND_REFERS_TO, target_page_id=self._page_id(known))
        request = pb.LinkPagesRequest(page_id=self._page_id(known), links=[link])
        return self._mutation("link_pages", session_id, request, expects=True)

    def drop(self, session_id: str, known: Known) -> Call:
        return self._mutation(
            "drop_pages", session_id, pb.DropPagesRequest(page_ids=[self._page_id(known)]), expects=True
        )

    def compress(self, session_id: str, known: Known) -> Call:
        request = pb.CompressPagesRequest(page_ids=[self._page_id(known) for _ in range(2)])
        return self._mutation("compress_pages", session_id, request)

    def checkpoint(self, session_id: str, known: Known) -> Call:
        checkpoint_id = f"c{self.dice.randrange(8)}"
        known.checkpoint_ids.append(checkpoint_id)
        request = pb.CreateCheckpointRequest(checkpoint_id=checkpoint_id)
        return self._mutation("create_checkpoint", session_id, request, expects=True)

    def forget_checkpoint(self, session_id: str, known: Known) -> Call:
        checkpoint_id = self.dice.choice(known.checkpoint_ids or ["c0"])
        request = pb.DeleteCheckpointRequest(checkpoint_id=checkpoint_id)
        return self._mutation("delete_checkpoint", session_id, request, expects=True)

    def restore(self, session_id: str, known: Known) -> Call:
        request = pb.RestoreCheckpointRequest()
        if known.checkpoint_ids or not known.revisions:
            request.checkpoint_id = self.dice.choice(known.checkpoint_ids or ["c0"])
        else:
            request.revision = self.dice.choice(known.revisions)
        return self._mutation("restore_checkpoint", session_id, request, expects=True)

    def fork(self, session_id: str, known: Known) -> Call:
        if len(self.book.sessions) > 5:
            return self.append(session_id, known)
        fork_id = f"t{self.name}{self._calls}"
        request = pb.ForkSessionRequest(new_session_id=fork_id)
        if known.revisions and self.dice.random() < 0.5:
            request.at_revision = self.dice.choice(known.revisions)
        return self._mutation("fork_session", session_id, request)

    def configure(self, session_id: str, _: Known) -> Call:
        config = session_pb2.SessionConfig(max_l0_tokens=self.dice.choice((600, 900, 2_000)))
        return self._mutation("configure_session", session_id, pb.ConfigureSessionRequest(config=config), expects=True)

    def close(self, session_id: str, known: Known) -> Call:
        match self.dice.randrange(8):
            case 0:
                return self._mutation("close_session", session_id, pb.CloseSessionRequest())
            case 1:
                return self._mutation("delete_session", session_id, pb.DeleteSessionRequest())
            case _:
                return self.append(session_id, known)

    def flush(self, session_id: str, _: Known) -> Call:
        return self._read("flush_session", session_id, pb.FlushSessionRequest())

    def search(self, session_id: str, _: Known) -> Call:
        query = self.dice.choice(("parcel depot", f"{self.name}x{self.dice.randrange(20)}q", mark_of(self.book.tenant)))
        return self._read("search_pages", session_id, pb.SearchPagesRequest(query=query))

    def assemble(self, session_id: str, _: Known) -> Call:
        request = pb.AssemblePromptRequest(
            budget_tokens=self.dice.choice((0, 0, 500, 1_000, 4_000)), reserve_tokens=self.dice.choice((0, 50))
        )
        if not request.budget_tokens:
            request.reserve_tokens = 0
        return self._read("assemble_prompt", session_id, request)

    def read(self, session_id: str, known: Known) -> Call:
        return self._read("read_page", session_id, pb.ReadPageRequest(page_id=self._page_id(known)))

    def get_page(self, session_id: str, known: Known) -> Call:
        return self._read("get_page", session_id, pb.GetPageRequest(page_id=self._page_id(known)))

    def list_pages(self, session_id: str, _: Known) -> Call:
        return self._read("list_pages", session_id, pb.ListPagesRequest(page_size=1_000))

    def stats(self, session_id: str, _: Known) -> Call:
        return self._read("get_stats", session_id, pb.GetStatsRequest())

    def get_session(self, session_id: str, _: Known) -> Call:
        return self._read("get_session", session_id, pb.GetSessionRequest())

    def context_at(self, session_id: str, known: Known) -> Call:
        if not known.revisions:
            return self.stats(session_id, known)
        return self._read(
            "get_context_at", session_id, pb.GetContextAtRequest(revision=self.dice.choice(known.revisions))
        )

    def replay(self, session_id: str, _: Known) -> Call:
        return self._read("replay_session", session_id, pb.ReplaySessionRequest())

    def page_history(self, session_id: str, known: Known) -> Call:
        return self._read("get_page_history", session_id, pb.GetPageHistoryRequest(page_id=self._page_id(known)))

    def _page_id(self, known: Known) -> str:
        return self.dice.choice(known.page_ids[-12:]) if known.page_ids else "p0"

    def _mutation(
        self,
        method: str,
        session_id: str,
        request: Any,  # noqa: ANN401 - any request
        *,
        expects: bool = False,
        reads: bool = False,
    ) -> Call:
        self._calls += 1
        request.request_id = f"{self.name}-{self._calls}"
        request.session_id = session_id
        revisions = self.book.known(session_id).revisions
        if expects and revisions and self.dice.random() < 0.1:
            request.expected_revision = revisions[-1]
        if reads and revisions and self.dice.random() < 0.5:
            request.min_revision = revisions[-1]
        key_id = request.new_session_id if method == "fork_session" else session_id
        return Call(method, SessionKey(self.book.tenant, SessionId(key_id)), request, mutates=True)

    def _read(self, method: str, session_id: str, request: Any) -> Call:  # noqa: ANN401 - any request
        request.session_id = session_id
        revisions = self.book.known(session_id).revisions
        if revisions and self.dice.random() < 0.5:
            request.min_revision = max(revisions)
        request.strict = self.dice.random() < 0.3
        return Call(method, SessionKey(self.book.tenant, SessionId(session_id)), request, mutates=False)


def copy_of(request: Message) -> Any:  # noqa: ANN401 - of the same class
    """A request of its own for every attempt: the gateway completes what it is given."""
    copy = type(request)()
    copy.CopyFrom(request)
    return copy


_ROLES: Final = (
    page_pb2.MESSAGE_ROLE_USER,
    page_pb2.MESSAGE_ROLE_ASSISTANT,
    page_pb2.MESSAGE_ROLE_TOOL,
    page_pb2.MESSAGE_ROLE_TOOL,
)
_MODALITIES: Final = (page_pb2.MODALITY_TEXT, page_pb2.MODALITY_IMAGE, page_pb2.MODALITY_STRUCTURED)
_TYPES: Final = (page_pb2.PAGE_TYPE_TRANSCRIPT, page_pb2.PAGE_TYPE_CLAIM, page_pb2.PAGE_TYPE_ARTIFACT)

_PROGRAM: Final[dict[Callable[[Program, str, Known], Call], int]] = {
    Program.append: 30,
    Program.begin_turn: 4,
    Program.fault: 10,
    Program.fault_many: 3,
    Program.tool_calls: 2,
    Program.pin: 3,
    Program.unpin: 2,
    Program.importance: 2,
    Program.annotate: 3,
    Program.link: 3,
    Program.drop: 3,
    Program.compress: 4,
    Program.checkpoint: 3,
    Program.forget_checkpoint: 1,
    Program.restore: 2,
    Program.fork: 2,
    Program.configure: 2,
    Program.close: 2,
    Program.flush: 3,
    Program.search: 4,
    Program.assemble: 5,
    Program.read: 5,
    Program.get_page: 2,
    Program.list_pages: 2,
    Program.stats: 3,
    Program.get_session: 4,
    Program.context_at: 2,
    Program.replay: 1,
    Program.page_history: 1,
}
_MAKERS: Final = list(_PROGRAM)
_WEIGHTS: Final = list(_PROGRAM.values())

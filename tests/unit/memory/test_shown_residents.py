"""What is kept from one prompt to the next is what would be made of the session anew, whatever happened to it."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagekeeper.core import decisions
from pagekeeper.core import events as ev
from pagekeeper.core.decisions import NewPage
from pagekeeper.core.drafts import page_to_map
from pagekeeper.core.embedding import WordsAlone
from pagekeeper.core.errors import PagekeeperError
from pagekeeper.core.events import PromptLayout
from pagekeeper.core.offering import Offering, said_last
from pagekeeper.core.pages import FaultReason, MessageRole
from pagekeeper.memory.process_prompts import ProcessPrompts, Prompt, PromptRequest
from pagekeeper.memory.process_session import ProcessSession
from pagekeeper.memory.session_log import SessionLog
from pagekeeper.memory.shown_residents import ShownResidents
from pagekeeper.runtime.tokens import for_model

MODELS = ("", "gpt-4")
"""The session's own, and one with another tokenizer, whose lines are kept apart and may lag behind."""
CONFIG = ev.SessionConfig(max_l0_tokens=1_700, reserved_tokens=800)
CHECKPOINT = "c"
TEXTS = st.lists(
    st.sampled_from(("PostgreSQL", "the ledger", "port 8080", "in March", "What did we decide?")),
    min_size=10,
    max_size=60,
).map(" ".join)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens, with everything that is left open drawn; then a prompt for `model`."""

    what: str
    page_id: str
    text: str
    role: MessageRole
    number: int
    model: str


def say(process: ProcessSession, step: Step) -> None:
    full = process.log.stored(step.text.encode())
    process.append(NewPage(page_to_map("", full, step.text, role=step.role), new_version=False))


def update(process: ProcessSession, step: Step) -> None:
    page = decisions.known_page(process.session, step.page_id)
    full = process.log.stored(step.text.encode())
    process.append(NewPage(page_to_map(step.page_id, full, step.text, role=page.role), new_version=True))


def restore(process: ProcessSession, _step: Step) -> None:
    process.restore(CHECKPOINT)


def fault(process: ProcessSession, step: Step) -> None:
    process.fault(step.page_id, step.number % 4, FaultReason.RESOLVE_REFERENCE)


def annotate(process: ProcessSession, step: Step) -> None:
    process.log.commit(decisions.annotate(process.session, ev.PageAnnotation(step.page_id, hint=step.text[:20])))


def configure(process: ProcessSession, step: Step) -> None:
    layout = list(PromptLayout)[step.number % 2]
    process.log.commit(decisions.configure(process.session, replace(CONFIG, layout=layout), ()))


ACTS: dict[str, Callable[[ProcessSession, Step], object]] = {
    "say": say,
    "update": update,
    "fault": fault,
    "annotate": annotate,
    "configure": configure,
    "restore": restore,
    "checkpoint": lambda process, _: process.log.commit(
        decisions.create_checkpoint(process.session, CHECKPOINT, CHECKPOINT)
    ),
    "release": lambda process, step: process.release([step.page_id]),
    "lower": lambda process, step: process.lower(step.page_id, 1),
    "turn": lambda process, _: process.log.commit(ev.TurnBegun()),
    "pin": lambda process, step: process.log.commit(decisions.pin(process.session, [step.page_id])),
    "unpin": lambda process, step: process.log.commit(decisions.unpin(process.session, [step.page_id])),
    "drop": lambda process, step: process.log.commit(decisions.unmap(process.session, [step.page_id])),
    "importance": lambda process, step: process.log.commit(
        decisions.set_importance(process.session, step.page_id, step.number / 10)
    ),
}
STEPS = st.builds(
    Step,
    what=st.sampled_from(("say", "say", "say", "say", "annotate", "annotate", *ACTS)),
    page_id=st.integers(1, 4).map(lambda number: f"p{number}"),
    text=TEXTS,
    role=st.sampled_from(MessageRole),
    number=st.integers(0, 9),
    model=st.sampled_from(MODELS),
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, min_size=10, max_size=40))
def test_what_is_kept_is_what_would_be_made_anew(history: list[Step]) -> None:
    clock = count(1_790_000_000_000)
    process = ProcessSession(SessionLog.opened("s", clock.__next__, CONFIG), WordsAlone)
    prompts = ProcessPrompts(process)
    shown = {model: shown_residents(process, model) for model in MODELS}
    for step in history:
        with suppress(PagekeeperError):  # what is refused leaves no trace
            if step.what != "lower" or _may_be_lower(process, step.page_id):
                ACTS[step.what](process, step)
        for budget_tokens in (0, 900):
            request = PromptRequest(model=step.model, budget_tokens=budget_tokens)
            assert prompt_of(prompts, request) == prompt_of(ProcessPrompts(process), request)
        check(process, shown[step.model], shown_residents(process, step.model))


def test_an_offered_page_is_offered_as_it_is_now() -> None:
    clock = count(1_790_000_000_000)
    process = ProcessSession(SessionLog.opened("s", clock.__next__, CONFIG), WordsAlone)
    prompts = ProcessPrompts(process)
    step = Step("say", "p1", "PostgreSQL", MessageRole.USER, 0, "")
    say(process, step)
    process.release(["p1"])
    assert '"p1":"PostgreSQL"' in prompts.assemble(PromptRequest("Go on.")).chat.messages[0].content
    annotate(process, replace(step, text="the ledger"))
    assert '"p1":"the ledger"' in prompts.assemble(PromptRequest("Go on.")).chat.messages[0].content


def shown_residents(process: ProcessSession, model: str) -> ShownResidents:
    return ShownResidents(process.log, for_model(model) if model else process.tokens, recount=bool(model))


def _may_be_lower(process: ProcessSession, page_id: str) -> bool:
    page = process.session.page(page_id)
    return page is not None and page.current.at(1) is not None


def prompt_of(prompts: ProcessPrompts, request: PromptRequest) -> Prompt | str:
    """The prompt, or how it was refused."""
    try:
        return prompts.assemble(request)
    except PagekeeperError as refused:
        return refused.message


def check(process: ProcessSession, kept: ShownResidents, anew: ShownResidents) -> None:
    """What is kept equals what is made anew: lines in the order in which they were said, sums, and offered lines."""
    session = process.session
    anew_offering = Offering()
    anew_offering.keep_up(session)
    assert process.offering().last_message == anew_offering.last_message
    words = said_last(session, anew_offering.last_message)
    held_out = words.page.page_id if words is not None and words.is_input else ""
    for shown in (kept, anew):
        shown.keep_up(held_out)
    for faulted, one, other in ((False, kept.context, anew.context), (True, kept.faulted, anew.faulted)):
        said = [resident for page_id in session.pages if (resident := session.working_set.get(page_id))]
        expected = [r.page_id for r in said if r.faulted is faulted and r.page_id != held_out]
        assert [line.page_id for line in one.lines] == expected
        assert (one.pages, one.lines, one.texts) == (other.pages, other.lines, other.texts)
        assert (one.tokens, one.floor_tokens) == (sum(line.tokens for line in one.lines), other.floor_tokens)
    assert kept.lowered_total == sum(resident.level > 0 for resident in session.working_set)
    offered = list(process.offering().offered(100))
    assert kept.offered(offered) == anew.offered(offered)

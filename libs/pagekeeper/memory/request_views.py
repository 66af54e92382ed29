"""Views of a request in the guide's models: the pages that it shows and lists."""

from pagekeeper.core.prompt_parts import fault_policies
from pagekeeper.memory.context_packer import PackedContext
from pagekeeper.memory.manifest import AvailablePageEntry, ManifestPolicies, NotListed, VMManifest, WorkingSetEntry
from pagekeeper.memory.models import CompressionLevel
from pagekeeper.memory.process_prompts import Prompt
from pagekeeper.memory.process_session import ProcessSession


def manifest_of(process: ProcessSession, prompt: Prompt) -> VMManifest:
    """Return the pages that a prompt shows, and those that it lists without showing them."""
    session, chat = process.session, prompt.chat
    shown = (*chat.included, *chat.faulted, *chat.recalled)
    resident = [(session.pages[line.page_id], line) for line in shown]
    listed = [session.pages[page_id] for page_id in chat.listed]
    policies = fault_policies(
        session.config,
        prompt.mode,
        faults_this_turn=session.counters.faults_this_turn,
        fault_tokens_this_turn=session.counters.fault_tokens_this_turn,
    )
    away = process.offering().offered_total
    return VMManifest(
        session_id=process.log.session_id,
        working_set=[
            WorkingSetEntry(
                page_id=page.page_id,
                modality=page.modality,
                level=CompressionLevel(line.level),
                tokens_est=line.tokens,
                importance=page.importance,
            )
            for page, line in resident
        ],
        available_pages=[
            AvailablePageEntry(
                page_id=page.page_id,
                modality=page.modality,
                tier=session.tier(page),
                levels=[CompressionLevel(one.level) for one in page.current.representations],
                hint=page.hint,
            )
            for page in listed
        ],
        policies=ManifestPolicies(
            faults_allowed=policies.faults_allowed,
            max_faults_per_turn=policies.max_faults_per_turn,
            faults_remaining=policies.faults_remaining,
            upgrade_budget_tokens=policies.upgrade_budget_tokens,
            prefer_levels=list(policies.prefer_levels),
        ),
        pressure=session.pressure().name.lower(),  # type: ignore[arg-type] # one of the four
        not_listed=NotListed(available_pages=max(0, away - len(listed))),
    )


def packed_of(prompt: Prompt) -> PackedContext:
    """The lines of the pages that a prompt shows."""
    lines = (*prompt.chat.included, *prompt.chat.faulted, *prompt.chat.recalled)
    return PackedContext(
        content="".join([line.text for line in lines]).removesuffix("\n"),
        tokens_est=sum(line.tokens for line in lines),
        pages_included=[line.page_id for line in lines],
        pages_omitted=list(prompt.chat.omitted),
    )

"""A log that was written long ago folds to what it folded to then.

When this fails, the rules of the fold have changed: sessions that exist would wake up as something else.
"""

import json
from typing import get_args

import pytest

from pagekeeper.core import events as ev
from pagekeeper.core.effects import Effect, decisions_digest
from pagekeeper.runtime import codec
from pagekeeper.v1 import event_pb2
from tests.golden.folding import GOLDEN_LOG, GOLDEN_STATES, fold, folds

ARCHIVED = event_pb2.ArchivedHistory.FromString(GOLDEN_LOG.read_bytes())
STATES = json.loads(GOLDEN_STATES.read_text())


@pytest.mark.parametrize("state", STATES, ids=lambda state: str(state["revision"]))
def test_it_folds_to_what_it_folded_to(state: dict[str, int | str]) -> None:
    session, effects = fold(ARCHIVED, until=int(state["revision"]))
    assert decisions_digest(effects).hex() == state["decisions_sha256"]
    assert codec.state_digest(session).hex() == state["state_sha256"]


def test_it_does_so_from_snapshots_of_every_record() -> None:
    expected = {state["revision"]: state for state in STATES}
    for revision, session, effects in folds(ARCHIVED, through_snapshots=True):
        if (state := expected.pop(revision, None)) is not None:
            assert decisions_digest(effects).hex() == state["decisions_sha256"]
            assert codec.state_digest(session).hex() == state["state_sha256"]
    assert not expected


def test_everything_that_can_happen_is_in_it() -> None:
    transactions = [codec.decode_transaction(kept.record.transaction) for kept in ARCHIVED.records]
    assert {type(event) for one in transactions for event in one.events} == set(get_args(ev.Event))
    _, effects = fold(ARCHIVED, until=ARCHIVED.records[-1].revision)
    assert {type(effect.what) for effect in effects} == set(get_args(Effect))
    assert any(kept.record.HasField("snapshot") for kept in ARCHIVED.records)

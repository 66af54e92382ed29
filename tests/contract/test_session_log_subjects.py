"""Names that are on disks: a change of any of them loses what is stored."""

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core.errors import InvalidField
from pagekeeper.core.ids import ID, SessionId, SessionKey, TenantId, id_of_token, session_key, token_of
from pagekeeper.runtime.blobs.port import check_key
from pagekeeper.runtime.log.subjects import log_stream, log_subject, partition_of, split_subject


@pytest.mark.parametrize(
    ("tenant", "session", "of_4", "of_64"),
    [
        ("acme", "s1", 1, 37),
        ("acme", "s2", 1, 1),
        ("a", "cme-s1", 2, 58),
        ("tenant_with_a_long_name-0123456789", "4f1c9d9e6bba4c0e8d3f6b0a7c2e5d18", 1, 37),
    ],
)
def test_a_session_stays_in_its_partition(tenant: str, session: str, of_4: int, of_64: int) -> None:
    key = session_key(tenant, session)
    assert (partition_of(key, 4), partition_of(key, 64)) == (of_4, of_64)


def test_partitions_are_filled_evenly() -> None:
    filled = Counter(partition_of(session_key(f"t{n % 100}", f"s{n}"), 16) for n in range(16_000))
    assert all(800 < count < 1200 for count in filled.values())


def test_a_subject_says_where_a_session_is() -> None:
    key = session_key("acme", "s1")
    assert log_stream(3) == "PK_LOG_3"
    assert log_subject(key, 3) == "pk.log.3.acme.s1"
    assert split_subject("pk.log.3.acme.s1") == split_subject("pk.feed.3.acme.s1") == (3, key)


@given(st.from_regex(ID, fullmatch=True), st.from_regex(ID, fullmatch=True))
def test_an_id_is_one_token_of_a_subject_and_one_segment_of_a_key_and_is_read_back(one: str, other: str) -> None:
    token = token_of(one)
    assert re.fullmatch(r"[A-Za-z0-9_=-]+", token)
    assert id_of_token(token) == one
    assert (token == token_of(other)) == (one == other)
    if re.fullmatch(r"[A-Za-z0-9_-]+", one):
        assert token == one, "what was stored under an id stays there"
    key = session_key("acme", one)
    assert split_subject(log_subject(key, 3)) == (3, key)
    assert check_key(f"acme/{token}/content/x1") == f"acme/{token}/content/x1"


def test_nothing_that_is_no_id_becomes_part_of_a_subject() -> None:
    for wrong in ("*", ">", "a.*", "a b", "a=2E", ""):
        with pytest.raises(InvalidField):
            log_subject(SessionKey(TenantId("acme"), SessionId(wrong)), 0)
    for wrong in ("*", ">", "a.b", "a/b", "a b", ""):
        with pytest.raises(InvalidField):
            log_subject(SessionKey(TenantId(wrong), SessionId("s1")), 0)

"""What a reader is given of what is stored."""

import pytest

from pagekeeper.runtime.log.port import LogBroken, Record, decode_touches, encode_touches, whole_tail


def stored(*links: tuple[int, int] | tuple[int, int, str]) -> list[tuple[Record, int]]:
    """Records from (previous revision, revision), with "rollup" for those that are one."""
    return [
        (Record(revision, f"op{revision}", b"", rollup=bool(kind)), previous) for previous, revision, *kind in links
    ]


def revisions(records: list[Record]) -> list[int]:
    return [record.revision for record in records]


def test_a_chain_is_given_whole() -> None:
    chain = stored((0, 3), (3, 4), (4, 9))
    assert revisions(whole_tail(chain, 0)) == [3, 4, 9]
    assert revisions(whole_tail(chain[1:], 3)) == [4, 9]
    assert whole_tail([], 9) == []


def test_a_reader_may_start_between_two_revisions() -> None:
    assert revisions(whole_tail(stored((4, 9)), 7)) == [9]


@pytest.mark.parametrize(
    ("links", "after_revision"),
    [
        (stored((3, 4)), 0),
        (stored((0, 3), (4, 9)), 0),
        (stored((3, 4), (4, 9), (10, 11)), 3),
        (stored((0, 3, "rollup"), (4, 9)), 0),
        (stored((0, 3), (0, 4)), 0),
    ],
)
def test_a_missing_record_is_never_read_over(links: list[tuple[Record, int]], after_revision: int) -> None:
    with pytest.raises(LogBroken):
        whole_tail(links, after_revision)


def test_what_a_rollup_replaced_is_not_given_though_a_killed_server_kept_it() -> None:
    all_of_it = stored((0, 3), (3, 4), (4, 9, "rollup"), (9, 10))
    some_of_it = stored((3, 4), (4, 9, "rollup"), (9, 10))
    for kept in (all_of_it, some_of_it):
        records = whole_tail(kept, 0)
        assert revisions(records) == [9, 10]
        assert records[0].rollup


def test_touches_are_carried_or_count_as_anything() -> None:
    for touches in ((), ("p1",), ("p1", "p-2", "_"), None):
        assert decode_touches(encode_touches(touches)) == touches
    assert encode_touches(tuple("x" * 64 for _ in range(64))) is None

"""Which tests run one after another on one worker."""

import re

from tests.conftest import FOLDERS, FOLDERS_OF_WORKERS, TESTS, folder, group_of_file

ASKS_FOR_A_STACK = re.compile(r"^(?:async )?def test_\w+\([^)]*\b(?:stack_of_one|stack_of_five|alice)\b", re.MULTILINE)


def test_every_folder_has_its_place_in_both_orders() -> None:
    assert sorted(FOLDERS) == sorted(FOLDERS_OF_WORKERS)
    assert {folder(path) for path in TESTS.rglob("test_*.py")} == set(FOLDERS)


def test_who_shares_the_stacks_is_in_their_group() -> None:
    """A test that is not starts two stacks more, on the other worker."""
    files = sorted((TESTS / "integration").glob("test_*.py"))
    sharing = {path.name for path in files if ASKS_FOR_A_STACK.search(path.read_text())}
    assert len(sharing) > 5
    assert sharing <= {path.name for path in files if group_of_file(path) == "stacks"}


def test_what_needs_the_machine_for_itself_is_one_group() -> None:
    alone = {group_of_file(path) for name in ("faults", "e2e") for path in (TESTS / name).glob("test_*.py")}
    assert alone == {"one at a time"}
    assert group_of_file(TESTS / "contract" / "test_blob_store.py") == str(TESTS / "contract" / "test_blob_store.py")
    assert group_of_file(TESTS / "unit" / "test_escape.py") is None

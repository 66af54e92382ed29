"""The figures of the README are those of the results that are committed."""

from pathlib import Path

from bench.claims import PLACE, with_figures
from bench.quality.__main__ import PARTS
from tests.tidy.repository import text


def test_the_tables_are_made_of_the_committed_results() -> None:
    page = text(Path("README.md"))
    assert with_figures(page) == page, "python -m bench.claims writes the tables"


def test_every_part_that_is_measured_has_its_table() -> None:
    assert {place["part"] for place in PLACE.finditer(text(Path("README.md")))} == set(PARTS)

"""The recipes of CONTRIBUTING name places and tests that exist, and what a port asks of a backend."""

import re
from pathlib import Path

from pagekeeper.runtime.blobs.port import Bucket
from tests.tidy.repository import ROOT, text

RECIPES = text(Path("CONTRIBUTING.md")).partition("## Recipes\n")[2].partition("\n## ")[0]
PATH = re.compile(r"`((?:[\w.-]+/)+[\w.-]+)`")
NAME = re.compile(r"`([A-Z]\w+)`")


def test_every_recipe_names_places_that_exist() -> None:
    recipes = dict(re.findall(r"^### (.+)\n(.*(?:\n(?!### ).*)*)", RECIPES, re.MULTILINE))
    assert list(recipes) == [
        "Add a page field",
        "Add an RPC",
        "Add a limit",
        "Add a replacement policy",
        "Add a model family",
        "Add a bucket backend",
    ]
    for recipe, steps in recipes.items():
        places = PATH.findall(steps)
        assert any(place.startswith("tests/") for place in places), f"{recipe}: no test says when something is missing"
        missing = [place for place in places if not (ROOT / place).exists()]
        assert not missing, f"{recipe}: {missing}"


def test_every_name_in_a_recipe_stands_in_a_place_that_the_recipe_names() -> None:
    for recipe in RECIPES.split("### ")[1:]:
        places = [ROOT / place for place in PATH.findall(recipe)]
        contents = "".join(place.read_text() for place in places if place.is_file())
        unknown = [
            name for name in NAME.findall(recipe) if name not in contents and name not in {"README", "SessionConfig"}
        ]
        assert not unknown, f"{recipe.splitlines()[0]}: {unknown}"


def test_a_backend_is_closed_by_the_port() -> None:
    assert hasattr(Bucket, "close")

"""A service's README says what is true of its code."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

from pagekeeper.runtime.settings import PREFIX, Settings
from tests.tidy.api import fields, rpcs
from tests.tidy.repository import ROOT, files, text

HEADINGS = ["Owns", "RPCs", "Events", "Invariants", "Never does"]
OWN_SETTINGS_MAX = 8
# The gateway's API is the public one, which is named for what it serves.
API = {"gateway": "MemoryService"}


def service_name(folder: str) -> str:
    return API.get(folder, "".join(word.capitalize() for word in folder.split("_")) + "Service")


APIS = {service for service, _ in rpcs()}
FOLDERS = sorted((ROOT / "services" / "pagekeeper").iterdir())
SERVICES = [path.name for path in FOLDERS if service_name(path.name) in APIS]


def sections(service: str) -> dict[str, str]:
    """What stands under each second heading of a service's README."""
    parts = re.split(r"^## (.+)$", text(Path("services/pagekeeper", service, "README.md")), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("service", SERVICES)
def test_a_readme_has_the_same_headings_as_its_siblings(service: str) -> None:
    assert [heading for heading in sections(service) if heading in HEADINGS] == HEADINGS


@pytest.mark.parametrize("service", SERVICES)
def test_a_readme_lists_the_rpcs_that_exist(service: str) -> None:
    """An item of the list, or a row of the table, begins with one or more names in backquotes."""
    items = re.findall(r"^(?:- |\| ?)((?:`\w+`(?:, )?)+)", sections(service)["RPCs"], flags=re.MULTILINE)
    listed = {name for item in items for name in re.findall(r"`(\w+)`", item)}
    assert listed == {rpc.name for api, rpc in rpcs() if api == service_name(service)}


@pytest.mark.parametrize("service", SERVICES)
def test_a_readme_names_the_events_that_the_service_writes(service: str) -> None:
    kinds = {kind: field.comment for field, kind in fields("Event")}
    written = {kind for kind, comment in kinds.items() if f"is written by {service.replace('_', '-')}." in comment}
    assert set(re.findall(r"`(\w+)`", sections(service)["Events"])) & set(kinds) == written


def test_every_event_has_one_writer() -> None:
    writers = [re.findall(r"is written by ([a-z-]+)\.", field.comment) for field, _ in fields("Event")]
    assert all(len(writer) == 1 for writer in writers)
    assert {service_name(writer[0].replace("-", "_")) for writer in writers} <= APIS


@pytest.mark.parametrize("module", files("services/pagekeeper/*/settings.py"), ids=str)
def test_settings_are_few_and_documented(module: Path) -> None:
    folder = module.parent
    name = ".".join(module.relative_to("services").with_suffix("").parts)
    classes = [kind for _, kind in inspect.getmembers(importlib.import_module(name), inspect.isclass)]
    (settings,) = [kind for kind in classes if kind.__module__ == name and issubclass(kind, Settings)]
    readme = text(folder / "README.md")
    assert len(settings.__annotations__) <= OWN_SETTINGS_MAX
    variables = [f"{PREFIX}{field.upper()}" for field in settings.model_fields]
    assert not [variable for variable in variables if f"`{variable}`" not in readme]

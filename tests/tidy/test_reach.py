"""Every module is reached from something that starts: what nobody imports is dead."""

import ast
from configparser import ConfigParser
from pathlib import Path

import grimp

from tests.tidy.repository import ROOT, files, pyproject, text


def test_every_module_is_reached_from_an_entry_point() -> None:
    graph = grimp.build_graph("pagekeeper", cache_dir=None)
    modules = {module for module in graph.modules if not module.startswith("pagekeeper.v1")}
    script = pyproject()["project"]["scripts"]["pagekeeper"].partition(":")[0]
    entries = {script, "pagekeeper.client", "pagekeeper.memory"} | {
        module for module in modules if module.endswith(".__main__")
    }
    reached = {module for entry in entries & modules for module in graph.find_upstream_modules(entry)} | entries
    leaves = {module for module in modules if not graph.find_children(module)}
    assert not sorted(leaves - reached)


def test_only_a_module_that_imports_the_stubs_may() -> None:
    """The linter refuses an importer that is not listed; here, one that is listed and imports none of them."""
    linter = ConfigParser(inline_comment_prefixes="#")
    linter.read(ROOT / ".importlinter")
    listed = linter["importlinter:contract:stubs"]["allowed_importers"].split()
    graph = grimp.build_graph("pagekeeper", "demo", cache_dir=None)
    edges = {
        importer
        for stub in graph.find_descendants("pagekeeper.v1")
        for importer in graph.find_modules_that_directly_import(stub)
        if not importer.startswith("pagekeeper.v1")
    }
    assert sorted(listed) == sorted(edges)


def test_every_helper_of_the_tests_is_used() -> None:
    helpers = {
        path.with_suffix("").as_posix().replace("/", ".")
        for path in files("tests/*.py", "bench/*.py")
        if not path.name.startswith(("test_", "conftest", "__"))
    }
    imported = {name for path in files("tests/*.py", "bench/*.py") for name in imports(path)}
    runnable = {
        helper for helper in helpers if '__name__ == "__main__"' in text(Path(*helper.split(".")).with_suffix(".py"))
    }
    assert not sorted(helpers - imported - runnable)


def imports(path: Path) -> set[str]:
    """The modules that a file imports, and what it takes from them, by full name."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_every_port_of_the_runtime_has_a_contract_suite() -> None:
    ports = {path.parent.name for path in files("libs/pagekeeper/runtime/*/port.py")}
    assert ports
    suites = {name for path in files("tests/contract/*.py") for name in imports(path)}
    assert not sorted(port for port in ports if f"pagekeeper.runtime.{port}.port" not in suites)

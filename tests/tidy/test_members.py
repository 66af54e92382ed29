"""Nothing waits for a future caller: what is defined is used."""

from types import MappingProxyType

import pagekeeper.client
import pagekeeper.memory
from pagekeeper.app import descriptors
from pagekeeper.runtime.rpc.methods import methods
from tests.tidy.members import unused
from tests.tidy.repository import files, is_generated, text

API = (pagekeeper.memory, pagekeeper.client)
"""What these export is for programs that are not here, with all that their classes have."""
BY_A_LIBRARY = MappingProxyType(
    {
        "urlopen": "urllib3 asks its pool",
        "_parse_header_lines": "nats-py reads messages",
        "_close": "nats-py ends a connection",
        "_make_request_call_future": "gRPC asks for the calls of a method",
        "get_command": "click looks a command up",
        "render": "rich renders what is printed",
        "render_str": "rich renders a text",
    }
)
"""Overridden here, called by the base class."""
COMMANDS = "command"
"""What is decorated with a group's `command` is called by click."""


def sources(*patterns: str) -> dict[str, str]:
    return {
        path.with_suffix("").as_posix().replace("/", "."): text(path)
        for path in files(*patterns)
        if not is_generated(path)
    }


def exported() -> set[str]:
    """Names of the public API, and the members of its classes."""
    names = {name for module in API for name in module.__all__}
    objects = [getattr(module, name) for module in API for name in module.__all__]
    return names | {member for kind in objects if isinstance(kind, type) for member in dir(kind)}


def rpc_methods() -> set[str]:
    """Names of methods that are called by a service's descriptor."""
    services = [value for value in vars(descriptors).values() if hasattr(value, "methods_by_name")]
    return {method.attribute for service in services for method in methods(service)}


def test_every_member_is_used() -> None:
    """Tests are no users, but for those that hold a fake to a port."""
    ours = sources("libs/*.py", "services/*.py", "deploy/*.py")
    users = sources("demo/*.py", "bench/*.py", "examples/*.py", "tests/contract/*.py", "tests/fakes/*.py")
    called_from_outside = exported() | rpc_methods() | set(BY_A_LIBRARY)
    found = [
        str(member)
        for member in unused(ours, users)
        if member.name not in called_from_outside and COMMANDS not in member.decorators
    ]
    assert not found


def test_what_only_its_own_definition_reads_is_unused() -> None:
    ours = {
        "a": "LIMIT = 1\ndef used(): return helper()\ndef helper(): return LIMIT\ndef alone(n): return alone(n - 1)\n",
        "b": "class Port:\n    def read(self): ...\n    def write(self): ...\n    def _hidden(self): ...\nSPARE = 2\n",
    }
    users = {"c": "from a import used as other\nfrom b import Port\nother()\nPort().read()\n"}
    assert [str(member) for member in unused(ours, users)] == ["a.alone", "b.Port.write", "b.Port._hidden", "b.SPARE"]


def test_what_is_allowed_as_called_by_a_library_exists() -> None:
    defined = {member.name for member in unused(sources("libs/*.py", "services/*.py"), {})}
    assert set(BY_A_LIBRARY) <= defined

"""The API with its comments, compiled from proto/: the generated stubs do not carry them."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet

from pagekeeper.v1 import limits_pb2
from tests.tidy.repository import ROOT

SMALL = 10
"""Numbers up to this one name levels and shares too."""

# Field numbers of descriptor.proto, from which the paths of source locations are made.
FILE_MESSAGES, FILE_ENUMS, FILE_SERVICES, FILE_EXTENSIONS = 4, 5, 6, 7
MESSAGE_FIELDS, MESSAGE_MESSAGES, MESSAGE_ONEOFS = 2, 3, 8
ENUM_VALUES, SERVICE_METHODS = 2, 2


@dataclass(frozen=True, slots=True)
class Documented:
    """A name of the API and the comment above it."""

    name: str
    comment: str


class Named(Protocol):
    """Any element of a descriptor."""

    name: str


@cache
def compiled() -> tuple[FileDescriptorProto, ...]:
    """Every file of the API."""
    with TemporaryDirectory() as scratch:
        out = Path(scratch, "api.binpb")
        names = sorted(str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto").rglob("*.proto"))
        compiler = [sys.executable, "-m", "grpc_tools.protoc", "--include_source_info"]
        paths = ["--proto_path=proto", f"--descriptor_set_out={out}"]
        subprocess.run([*compiler, *paths, *names], cwd=ROOT, check=True)
        return tuple(FileDescriptorSet.FromString(out.read_bytes()).file)


def _comments(file: FileDescriptorProto) -> dict[tuple[int, ...], str]:
    return {tuple(location.path): location.leading_comments for location in file.source_code_info.location}


def elements() -> Iterator[Documented]:
    """Everything in the API that has a name: services, RPCs, messages, fields, oneofs, enums, values and options."""
    for file in compiled():
        comments = _comments(file)
        for at, service in enumerate(file.service):
            path = (FILE_SERVICES, at)
            yield Documented(service.name, comments.get(path, ""))
            yield from _members(service.method, (*path, SERVICE_METHODS), comments)
        for at, message in enumerate(file.message_type):
            yield from _message_elements(message, (FILE_MESSAGES, at), comments)
        for at, enum in enumerate(file.enum_type):
            yield Documented(enum.name, comments.get((FILE_ENUMS, at), ""))
            yield from _members(enum.value, (FILE_ENUMS, at, ENUM_VALUES), comments)
        yield from _members(file.extension, (FILE_EXTENSIONS,), comments)


def limited_fields() -> Iterator[tuple[str, Documented, set[float]]]:
    """Each field with limits, its message's name, and the limits that are larger than a level or a share."""
    for file in compiled():
        comments = _comments(file)
        for at, message in enumerate(file.message_type):
            for index, field in enumerate(message.field):
                if field.options.HasExtension(limits_pb2.limits):
                    said = field.options.Extensions[limits_pb2.limits]
                    numbers = {float(value) for _, value in said.ListFields() if not isinstance(value, bool)}
                    comment = comments.get((FILE_MESSAGES, at, MESSAGE_FIELDS, index), "")
                    yield message.name, Documented(field.name, comment), {n for n in numbers if n > SMALL}


def _message_elements(
    message: DescriptorProto, path: tuple[int, ...], comments: dict[tuple[int, ...], str]
) -> Iterator[Documented]:
    yield Documented(message.name, comments.get(path, ""))
    yield from _members(message.field, (*path, MESSAGE_FIELDS), comments)
    # The compiler makes a oneof of its own for each optional field; such a one has no comment.
    declared = len(message.oneof_decl) - sum(field.proto3_optional for field in message.field)
    yield from _members(message.oneof_decl[:declared], (*path, MESSAGE_ONEOFS), comments)
    for at, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            yield from _message_elements(nested, (*path, MESSAGE_MESSAGES, at), comments)


def _members(
    named: Sequence[Named], path: tuple[int, ...], comments: dict[tuple[int, ...], str]
) -> Iterator[Documented]:
    for index, one in enumerate(named):
        yield Documented(one.name, comments.get((*path, index), ""))


def rpcs() -> Iterator[tuple[str, Documented]]:
    """Every RPC, with the name of its service."""
    for file in compiled():
        comments = _comments(file)
        for at, service in enumerate(file.service):
            for index, method in enumerate(service.method):
                comment = comments.get((FILE_SERVICES, at, SERVICE_METHODS, index), "")
                yield service.name, Documented(method.name, comment)


def enum_values(enum: str) -> list[Documented]:
    """The values of an enum, without the prefix that its name gives them."""
    for file in compiled():
        comments = _comments(file)
        for at, candidate in enumerate(file.enum_type):
            if candidate.name == enum:
                prefix = candidate.value[0].name.removesuffix("UNSPECIFIED")
                return [
                    Documented(value.name.removeprefix(prefix), comments.get((FILE_ENUMS, at, ENUM_VALUES, index), ""))
                    for index, value in enumerate(candidate.value)
                ]
    raise LookupError(f"no enum {enum} in proto/")


def fields(message: str) -> list[tuple[Documented, str]]:
    """The fields of a message, each with the name of its type."""
    for file in compiled():
        comments = _comments(file)
        for at, candidate in enumerate(file.message_type):
            if candidate.name == message:
                return [
                    (
                        Documented(field.name, comments.get((FILE_MESSAGES, at, MESSAGE_FIELDS, index), "")),
                        field.type_name.rpartition(".")[2],
                    )
                    for index, field in enumerate(candidate.field)
                ]
    raise LookupError(f"no message {message} in proto/")

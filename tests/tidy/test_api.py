"""The API says of every call how it may fail, and of every failure what is true of it."""

import re
from collections import Counter

import grpc
import pytest

from pagekeeper.core import errors
from pagekeeper.runtime.errors import RULES
from tests.tidy.api import Documented, elements, enum_values, limited_fields, rpcs

REASONS = [value for value in enum_values("ErrorReason") if value.name != "UNSPECIFIED"]
RPCS = list(rpcs())
RPC_NAMES = {f"{service}.{rpc.name}" for service, rpc in RPCS}
CLASSES = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.PagekeeperError) and "reason" in vars(kind)
]
WORDS_MIN = 5
PRONOUNS = {"it", "its", "this", "that", "these", "those", "they", "them", "what", "which", "who", "one"}
ERRORS = re.compile(r"(?:^|\s)Errors: (?P<list>[^:]+)\.\s*$")


@pytest.mark.parametrize(("service", "rpc"), RPCS, ids=[f"{service}.{rpc.name}" for service, rpc in RPCS])
def test_an_rpc_ends_its_comment_with_its_errors(service: str, rpc: Documented) -> None:
    ending = ERRORS.search(rpc.comment)
    assert ending, f"the comment of {service}.{rpc.name} does not end with `Errors: ....`; `none` is an answer too"
    known = {reason.name for reason in REASONS} | {code.name for code in grpc.StatusCode}
    named = set(re.findall(r"\b[A-Z]{2,}(?:_[A-Z]+)*\b", ending["list"]))
    assert named <= known, f"{named - known} are neither reasons nor codes"
    referred = set(re.findall(r"\b[A-Z]\w+Service\.\w+", ending["list"]))
    assert referred <= RPC_NAMES, f"{referred - RPC_NAMES} do not exist"


@pytest.mark.parametrize("element", list(elements()), ids=lambda element: element.name)
def test_a_comment_begins_with_the_name_and_says_something(element: Documented) -> None:
    words = element.comment.split("\n\n")[0].split()
    assert len(words) >= WORDS_MIN, f"the comment of {element.name} has {len(words)} words: {element.comment!r}"
    name = words[0].rstrip(":,")
    assert element.name in (name, f"ERROR_REASON_{name}"), f"the comment of {element.name} begins with {words[0]!r}"
    assert words[1].lower() not in PRONOUNS, f"the comment of {element.name} goes on with {words[1]!r}"
    assert words[-1].endswith((".", ":")), f"the comment of {element.name} does not end with a full stop"


LIMITS = [
    (f"{message}.{field.name}", field.comment, sorted(numbers))
    for message, field, numbers in limited_fields()
    if numbers
]


@pytest.mark.parametrize(("field", "comment", "limits"), LIMITS, ids=[field for field, *_ in LIMITS])
def test_a_comment_does_not_repeat_a_limit(field: str, comment: str, limits: list[float]) -> None:
    said = {float(number.replace(",", "")) for number in re.findall(r"\b\d[\d,]*(?:\.\d+)?\b", comment)}
    assert not said & set(limits), f"the comment of {field} repeats a limit that its option says"


def test_every_reason_has_exactly_one_class() -> None:
    assert Counter(kind.reason for kind in CLASSES) == Counter(reason.name for reason in REASONS)


def test_every_class_has_a_rule() -> None:
    assert set(RULES) == set(CLASSES)


@pytest.mark.parametrize("reason", REASONS, ids=[reason.name for reason in REASONS])
def test_a_reason_is_documented_as_it_is_sent(reason: Documented) -> None:
    (kind,) = [kind for kind in RULES if kind.reason == reason.name]
    rule = RULES[kind]
    opening = r"\s*[A-Z_]+ is (?P<code>[A-Z_]+)(?: with (?P<detail>\w+))?, (?P<indefinite>not )?definite\b"
    said = re.match(opening, reason.comment)
    assert said, "the comment begins with the name, the code, the detail and `definite` or `not definite`"
    assert said["code"] == rule.code.name
    assert (said["detail"] == "RetryInfo") == bool(rule.retry_delay_ms)
    assert (said["indefinite"] is None) == rule.definite

"""What a history must never show."""


class Violation(AssertionError):
    """A law was broken."""


def check(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - the law comes first, as in an assertion
    """Raise Violation unless the law holds. Not an `assert`: no service may take it for a failure of its own."""
    if not holds:
        raise Violation(otherwise)

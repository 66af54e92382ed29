"""Versions of the fold's rules: which a transaction was decided by, which this release folds, and which it writes.

Several releases fold one log at the same time while a cluster is upgraded, and must come to equal states. So each
transaction names its rules, a release folds by its own rules and by those of the release before, and rules are written
only once every release that runs knows them: a release learns to fold by rules N + 1, and the next one writes them. A
session whose policy came with newer rules is written by these from its beginning, since a release that does not know
the rules does not know the policy either.

A change of what a record leads to needs a new version: another kind of event or value of an enumeration as much as
another way to make room. A policy has a name of its own for that (`pagekeeper.core.policies`).
"""

from dataclasses import dataclass
from typing import Final

from pagekeeper.core.errors import ReleaseTooOld

UNNAMED_FOLD_VERSION: Final = 6
"""Rules of transactions that name none: they were written before there was a name for it."""
FOLD_VERSION: Final = 7
"""The newest rules that this release folds by."""
WRITES_FOLD_VERSION: Final = 6
"""The rules that this release writes by: the newest that the release before can fold by too."""


@dataclass(frozen=True, slots=True)
class FoldRules:
    """The differences between versions.

    `room_once_an_event`: pages that are mapped by one event make room once, for all of them, before the first is
    admitted. Otherwise each makes room for itself.

    `versions_stay`: a version of a page stays in the turn and at the place where the page was said, and begins no turn.
    Otherwise it is of the turn that is current, and a user's begins one. A page that is appended again after it was
    dropped is said anew.

    `reminders_leave`: a message of the application that is said once turns have begun, such as a reminder in each turn,
    leaves like any other page. Only what was said before the first turn is never evicted. Otherwise no message of the
    application is.
    """

    version: int
    room_once_an_event: bool
    versions_stay: bool
    reminders_leave: bool


_RULES: Final = {
    rules.version: rules
    for rules in (
        FoldRules(6, room_once_an_event=False, versions_stay=False, reminders_leave=False),
        FoldRules(7, room_once_an_event=True, versions_stay=True, reminders_leave=True),
    )
}


def fold_rules(version: int) -> FoldRules:
    """The rules of a transaction's `fold_version`, 0 when it names none. Raises ReleaseTooOld."""
    rules = _RULES.get(version or UNNAMED_FOLD_VERSION)
    if rules is None:
        raise ReleaseTooOld(f"fold rules {version}", f"fold rules {', '.join(map(str, _RULES))}")
    return rules

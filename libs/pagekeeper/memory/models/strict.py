"""The bases of the models: known keywords, text that can be sent, short reprs, and JSON that can stand in a prompt."""

from collections.abc import Iterable
from typing import Any, ClassVar, Final

from pydantic import AliasChoices, BaseModel, model_validator
from pydantic_core import PydanticCustomError, PydanticUndefined

from pagekeeper.core.escape import guard_json
from pagekeeper.core.wellformed import whole
from pagekeeper.memory.arguments import unknown_keyword
from pagekeeper.memory.shown import short_repr

_COLLECTIONS: Final = frozenset({dict, list, tuple, set, frozenset})


class StrictModel(BaseModel):
    """Raises pydantic's ValidationError, which is a ValueError, for a keyword that does not exist or a wrong value.

    A text that holds half a character is mended, also deep inside JSON values: nothing that a model keeps fails to be
    encoded as UTF-8.
    """

    _keywords: ClassVar[frozenset[str]] = frozenset()
    _accepted: ClassVar[frozenset[str]] = frozenset()
    """The keywords, and what a model's JSON says beside its fields: that is computed again when the JSON is read."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_options: Any) -> None:  # noqa: ANN401 - pydantic's hook
        keywords: set[str] = set()
        for name, field in cls.model_fields.items():
            alias = field.validation_alias
            choices = alias.choices if isinstance(alias, AliasChoices) else [alias or name]
            keywords.update(choice for choice in choices if isinstance(choice, str))
            if cls.model_config.get("populate_by_name"):
                keywords.add(name)
        cls._keywords, cls._accepted = frozenset(keywords), frozenset(keywords) | cls.model_computed_fields.keys()

    @model_validator(mode="before")
    @classmethod
    def _accept(cls, fields: Any) -> Any:  # noqa: ANN401 - what pydantic was given
        if not isinstance(fields, dict):
            return fields
        if not fields.keys() <= cls._accepted:
            keyword = min(map(str, fields.keys() - cls._accepted))
            problem = unknown_keyword(keyword, cls.__name__, cls._keywords)
            raise PydanticCustomError(
                "unknown_keyword", "{keyword} {problem}", {"keyword": keyword, "problem": problem}
            )
        # Most fields hold numbers and ASCII: only what may be broken is looked at.
        suspects = [
            value
            for value in fields.values()
            if (type(value) in _COLLECTIONS and value) or (type(value) is str and not value.isascii())
        ]
        if all(whole(value) is value for value in suspects):
            return fields
        return {name: whole(value) for name, value in fields.items()}

    def __repr_args__(self) -> Iterable[tuple[str | None, object]]:
        """The fields that differ from their defaults."""
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            default = None if field.default is PydanticUndefined else field.default
            if field.repr and (field.is_required() or (value != default and value not in ([], {}))):
                yield name, value

    def __repr__(self) -> str:
        return short_repr(type(self).__name__, self.__repr_args__())

    def __str__(self) -> str:
        return repr(self)


class KeyedModel(StrictModel):
    """Fields are read by attribute or by key: the guide's system gives dictionaries in places."""

    def __getitem__(self, key: str) -> object:
        """The field of that name. Raises KeyError when there is none."""
        if key not in type(self).model_fields:
            raise KeyError(key)
        return getattr(self, key)

    def __contains__(self, key: object) -> bool:
        return key in type(self).model_fields


class GuardedModel(StrictModel):
    """JSON of equal meaning, without a tag, page header, citation or control token in any string.

    A field that is None is left out: it would cost tokens in every prompt.
    """

    def model_dump_json(self, **options: Any) -> str:  # noqa: ANN401 - pydantic's options, handed on
        return guard_lines(super().model_dump_json(**{"exclude_none": True, **options}))

    def to_json(self, indent: int | None = None) -> str:
        return self.model_dump_json(indent=indent)


def guard_lines(json_text: str) -> str:
    """`guard_json` of indented JSON. A line break in JSON stands between lexemes, never in a string."""
    return "\n".join([guard_json(line) for line in json_text.split("\n")])

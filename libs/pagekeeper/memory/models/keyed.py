"""Models whose fields are read by attribute or by key: the guide's system gives dictionaries in places."""

from pagekeeper.memory.models.strict import StrictModel


class KeyedModel(StrictModel):
    def __getitem__(self, key: str) -> object:
        """The field of that name. Raises KeyError when there is none."""
        if key not in type(self).model_fields:
            raise KeyError(key)
        return getattr(self, key)

    def __contains__(self, key: object) -> bool:
        return key in type(self).model_fields

"""A config that checks each change of a field at once, for use from Python."""

from typing import Any

from ml_collections import ConfigDict

from unet_jax.build.field_checks import check_name, to_plain
from unet_jax.build.fields import FIELDS, from_plain
from unet_jax.specs import check_type


class LockedConfig(ConfigDict):
    """A config whose fields can be changed, but not renamed.

    An unknown field, or a value of another type, is an error when it is set. Specs may
    get more keys, which are checked with the function that they name. Lists may be used
    for tuples, and dicts for specs.
    """

    def __setitem__(self, name: str, value: Any) -> None:
        """Sets a field.

        Raises:
          UserError: the field does not exist, or the value is not of its type.
        """
        if self.is_locked:
            check_name(name, self, dashes="")
            types = {field.name: field.type for field in FIELDS}
            value = from_plain(value)
            check_type(to_plain(value), types[name], f"config.{name}")
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        """Returns a line for each field."""
        return "\n".join(f"{name} = {to_plain(self[name])!r}" for name in self)

    __str__ = __repr__


def lock_fields(config: ConfigDict) -> LockedConfig:
    """Returns a config with the same fields, whose specs may still get more keys."""
    locked = LockedConfig(sort_keys=False)  # in the order of the table
    fields = dict(config.items(preserve_field_references=True))
    for name in dict.fromkeys([*(f.name for f in FIELDS if f.name in fields), *fields]):
        locked[name] = fields[name]
    for value in locked.lock().values():
        if isinstance(value, ConfigDict):
            value.unlock()
    return locked

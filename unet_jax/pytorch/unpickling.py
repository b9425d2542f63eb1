"""Reads pickles as data: a machine for the opcodes that tensors and plain data need.

A pickle is a program whose instructions can call any function. This machine calls none.
A reference to a function or a class (a *global*) is text on its stack. Where the pickle
would call it, the machine looks the text up in a table of conversions, whose results
are plain data. All other globals and instructions are refused by name.

The opcodes are those of `pickletools`, which also decodes their arguments.
"""

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

from unet_jax.errors import UserError

MAX_STEPS = 20_000_000  # instructions; a network of 1,000 layers needs about 100,000
REMEDY = "in PyTorch, save the weights alone: torch.save(model.state_dict(), FILE)"
MAX_ARGUMENTS = 2**8  # of a call; a path has one for each part
MAX_COPIED = 2**26  # items, characters and bytes in the arguments of all calls
MAX_BITS = 2**10  # of an integer; those of random generators have up to 128
MAX_KEY = 2**12  # characters or bytes of a key, which is compared with others
MAX_NUMBER = 2**60  # of a key; integers are hashed modulo 2**61 - 1
MAX_NUMBERS = 2**15  # keys that are numbers; other hashes are random

Convert = Callable[..., Any]


class Global(NamedTuple):
    """The name of a function or a class, 'torch._utils._rebuild_tensor_v2'."""

    name: str


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {  # opcodes whose argument is the value
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
    *("FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,
}
_SIZED = frozenset((str, bytes, list, tuple, dict))  # types with a length
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_GETS = ("GET", "BINGET", "LONG_BINGET")
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")


def unpickle(
    file: BinaryIO,
    conversions: Mapping[str, Convert],
    load_persistent: Convert | None = None,
) -> Any:
    """Reads one pickle; the file is then at the byte after it.

    Args:
      file: a binary file whose `read` returns no more bytes than there are.
      conversions: the functions that replace the calls of a global, by its name. They
        get the arguments of the call.
      load_persistent: converts the id of an object that is stored elsewhere.

    Returns:
      Plain data and the results of the conversions. Sets are lists, and attributes
      that a pickle would add to an object are left out.

    Raises:
      UserError: the pickle is damaged, or refers to something that is not data.
    """
    machine = _Machine(conversions, load_persistent)
    try:
        for count, (code, argument, _) in enumerate(pickletools.genops(file)):
            if code.name == "STOP":
                return machine.stack.pop()
            if count > MAX_STEPS:
                raise UserError(f"its pickle has too many instructions; {REMEDY}")
            machine.execute(code.name, argument)
    except (IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            "is damaged: its pickle cannot be read; copy or download it again"
        ) from error
    raise UserError("is cut off; copy or download it again")


class _Machine:
    """The stack and the memory of a pickle that is being read."""

    def __init__(
        self, conversions: Mapping[str, Convert], load_persistent: Convert | None
    ) -> None:
        self.stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._copied = 0
        self._numbers = 0  # keys
        self._conversions = conversions
        self._load_persistent = load_persistent

    def execute(self, name: str, argument: Any) -> None:
        """Executes one instruction; raises UserError for one that is not data."""
        if name in _VALUES:
            if isinstance(argument, int) and argument.bit_length() > MAX_BITS:
                raise UserError(
                    f"its pickle has a number of more than {MAX_BITS:,} bits; {REMEDY}"
                )
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _GETS:
            self.stack.append(self._memo[argument])
        elif name in _PUTS:
            if argument > len(self._memo) + 1:  # picklers count from 0 or 1
                raise ValueError(argument)
            self._memo[argument] = self.stack[-1]
        elif name in _TUPLES:
            self._collapse(_TUPLES[name])
        elif name not in ("PROTO", "FRAME"):
            method = getattr(self, f"_do_{name.lower()}", None)
            if method is None:
                raise UserError(f"its pickle has the instruction {name}; {REMEDY}")
            method(argument)

    def _collapse(self, count: int) -> None:
        if count > len(self.stack):
            raise IndexError(count)
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.stack.append(items)

    def _pop_items(self) -> list[Any]:
        """Removes and returns the items since the last mark."""
        start = self._marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _do_mark(self, _: Any) -> None:
        self._marks.append(len(self.stack))

    def _do_pop(self, _: Any) -> None:
        self.stack.pop()

    def _do_pop_mark(self, _: Any) -> None:
        self._pop_items()

    def _do_dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _do_memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self.stack[-1]

    def _do_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._pop_items()))

    def _do_list(self, _: Any) -> None:
        self.stack.append(self._pop_items())

    _do_frozenset = _do_list

    def _do_dict(self, _: Any) -> None:
        items = self._pop_items()
        self.stack.append({})
        self._set_items(items)

    def _do_append(self, _: Any) -> None:
        item = self.stack.pop()
        self._get_list().append(item)

    def _do_appends(self, _: Any) -> None:
        items = self._pop_items()
        self._get_list().extend(items)

    _do_additems = _do_appends

    def _do_setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def _do_setitems(self, _: Any) -> None:
        self._set_items(self._pop_items())

    def _do_global(self, argument: str) -> None:
        self.stack.append(Global(argument.replace(" ", ".", 1)))

    def _do_stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError(name)
        self._count_copies(module, name)
        self.stack.append(Global(f"{module}.{name}"))

    def _do_reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise TypeError(function)
        convert = self._conversions.get(function.name)
        if convert is None:
            raise UserError(
                f"its pickle would call {function.name}, which is refused; {REMEDY}"
            )
        if len(arguments) > MAX_ARGUMENTS:
            raise ValueError(len(arguments))
        self._count_copies(arguments, *arguments)
        self.stack.append(convert(*arguments))

    _do_newobj = _do_reduce

    def _do_build(self, _: Any) -> None:
        """Sets the state of an object: only arrays have one that is data."""
        state = self.stack.pop()
        if hasattr(self.stack[-1], "set_state"):
            self.stack[-1].set_state(state)
        elif not isinstance(self.stack[-1], dict):
            raise UserError(f"its pickle changes an object that is no dict; {REMEDY}")

    def _do_binpersid(self, _: Any) -> None:
        if self._load_persistent is None:
            raise UserError("is damaged: it has no storages; download it again")
        self.stack.append(self._load_persistent(self.stack.pop()))

    def _count_copies(self, *values: Any) -> None:
        """Limits the sum of the sizes of all values that are copied.

        A pickle can refer to the same large value again and again.
        """
        self._copied += sum(len(v) for v in values if type(v) in _SIZED)
        if self._copied > MAX_COPIED:
            raise UserError(
                f"its pickle copies more than {MAX_COPIED:,} values; {REMEDY}"
            )

    def _get_list(self) -> list[Any]:
        if not isinstance(self.stack[-1], list):
            raise TypeError(self.stack[-1])
        return self.stack[-1]

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise TypeError(target)
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._check_key(key)
            target[key] = value

    def _check_key(self, key: Any) -> None:
        """Refuses keys that can take long to hash or to compare with others."""
        if isinstance(key, str | bytes):
            short = len(key) <= MAX_KEY
        elif isinstance(key, int | float):
            short = not abs(key) >= MAX_NUMBER  # NaN is not larger
            self._numbers += 1
        else:  # the hash of nested tuples can take a time exponential in their size
            short = key is None
        if not short:
            raise UserError(
                f"its pickle has a key that is no short text or number; {REMEDY}"
            )
        if self._numbers > MAX_NUMBERS:
            raise UserError(
                f"its pickle has more than {MAX_NUMBERS:,} keys that are numbers; "
                f"{REMEDY}"
            )

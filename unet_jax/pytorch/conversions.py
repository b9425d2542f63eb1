"""The globals that a checkpoint may name, and the plain data that replace their calls.

PyTorch's own names rebuild tensors. NumPy's names are those of numbers and small arrays
that training programs, nnU-Net among them, save beside the weights.
"""

import codecs
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from unet_jax.errors import UserError
from unet_jax.pytorch.tensor import Tensor, make_tensor
from unet_jax.pytorch.unpickling import Convert

MAX_BYTES = 2**24  # of an array of NumPy in a checkpoint; they hold curves and scores
MAX_TEXT = 2**12  # characters of a path
_DATA = re.compile(r"[buifSU?]\d{0,9}")  # types of arrays that are data


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> Tensor:
    return make_tensor(storage, offset, shape, strides)


def _rebuild_tensor_v2(
    storage: Any, offset: Any, shape: Any, strides: Any, *_: Any
) -> Tensor:
    return _rebuild_tensor(storage, offset, shape, strides)


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _make_dict(items: Any = ()) -> dict[Any, Any]:
    if items:  # a dict of one call; PyTorch adds the items one by one
        raise TypeError(items)
    return {}


def _make_default_dict(*_: Any) -> dict[Any, Any]:
    return {}


def _make_list(items: Any = ()) -> list[Any]:
    if not isinstance(items, list | tuple):
        raise TypeError(items)
    return list(items)


def _make_size(items: Any) -> tuple[Any, ...]:
    return tuple(_make_list(items))


def _describe(*arguments: Any) -> str:
    """Returns a device or a path as text."""
    if not all(isinstance(part, str | int) for part in arguments):
        raise TypeError(arguments)
    return "/".join(map(str, arguments))[:MAX_TEXT]


def _encode(text: Any, encoding: Any) -> bytes:
    """Returns bytes, which the protocol 2 of pickles writes as text in Latin-1."""
    if encoding != "latin1":
        raise TypeError(encoding)
    return codecs.latin_1_encode(text)[0]


class _Dtype:
    """A type of NumPy that is being read."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str):
            raise TypeError(type(code))
        if not _DATA.fullmatch(code):
            raise UserError(f"has an array of NumPy's type {code!r}, which is no data")
        self.dtype = np.dtype(code)

    def set_state(self, state: Any) -> None:
        """Sets the byte order, the only part of the state of a plain type."""
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """An array of NumPy that is being read."""

    def __init__(self, *_: Any) -> None:
        self.value = np.zeros(0)

    def set_state(self, state: Any) -> None:
        """Sets shape, type, order and numbers."""
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _Dtype) or not isinstance(content, bytes):
            raise TypeError(dtype)
        if len(content) > MAX_BYTES:
            raise UserError("has an array of NumPy that is too large to be a curve")
        order = "F" if fortran else "C"
        self.value = np.frombuffer(content, dtype.dtype).reshape(shape, order=order)


def _make_scalar(dtype: Any, content: Any = b"") -> Any:
    if not isinstance(dtype, _Dtype) or not isinstance(content, bytes):
        raise TypeError(dtype)
    return np.frombuffer(content, dtype.dtype, count=1)[0].item()


def _name_numpy(function: str) -> tuple[str, str]:
    """Returns the names of a function in NumPy 1 and in NumPy 2."""
    return f"numpy.core.multiarray.{function}", f"numpy._core.multiarray.{function}"


CONVERSIONS: Mapping[str, Convert] = {
    "collections.OrderedDict": _make_dict,
    "collections.defaultdict": _make_default_dict,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor_v2,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
    "torch.Size": _make_size,
    "torch.device": _describe,
    "pathlib.PosixPath": _describe,
    "pathlib.PurePosixPath": _describe,
    "pathlib.WindowsPath": _describe,
    "pathlib._local.PosixPath": _describe,
    "builtins.set": _make_list,
    "__builtin__.set": _make_list,
    "_codecs.encode": _encode,
    "numpy.dtype": _Dtype,
    **dict.fromkeys(_name_numpy("scalar"), _make_scalar),
    **dict.fromkeys(_name_numpy("_reconstruct"), _Array),
}

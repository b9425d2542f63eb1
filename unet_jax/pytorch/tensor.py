"""Tensors of a checkpoint whose numbers are read only when they are needed."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import ml_dtypes
import numpy as np

from unet_jax.errors import UserError

# The types of storages in pickles, without 'torch.' and 'Storage'.
STORAGE_TYPES = {
    "Double": np.dtype(np.float64),
    "Float": np.dtype(np.float32),
    "Half": np.dtype(np.float16),
    "BFloat16": np.dtype(ml_dtypes.bfloat16),
    "Long": np.dtype(np.int64),
    "Int": np.dtype(np.int32),
    "Short": np.dtype(np.int16),
    "Char": np.dtype(np.int8),
    "Byte": np.dtype(np.uint8),
    "Bool": np.dtype(np.bool_),
}
MAX_AXES = 32  # of an array of NumPy 1


class Storage(NamedTuple):
    """The numbers that one or more tensors share.

    Attributes:
      dtype: of the numbers, in native byte order.
      size: how many there are.
      read: returns their bytes.
      byteorder: '<' or '>'.
    """

    dtype: np.dtype
    size: int
    read: Callable[[], bytes | memoryview]
    byteorder: Literal["<", ">"] = "<"


class Tensor(NamedTuple):
    """An array in a storage.

    Attributes:
      storage: the numbers.
      offset: the index of the first one.
      shape: of the array.
      strides: in numbers, for each axis.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def load(self) -> np.ndarray:
        """Reads the numbers.

        Raises:
          UserError: the file has fewer bytes than it claims.
        """
        dtype = self.storage.dtype
        content = self.storage.read()
        if len(content) != self.storage.size * dtype.itemsize:
            raise UserError("is damaged: a storage has another size; download it again")
        swapped = dtype.newbyteorder(self.storage.byteorder)
        numbers = np.frombuffer(content, swapped)[self.offset :]
        steps = tuple(stride * dtype.itemsize for stride in self.strides)
        view = np.lib.stride_tricks.as_strided(numbers, self.shape, steps)
        return np.array(view, dtype)  # a copy, which owns its memory


def make_tensor(
    storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> Tensor:
    """Returns a tensor after it is checked that the tensor lies inside its storage.

    Raises:
      UserError: it does not, or it has more elements than the storage has numbers.
      TypeError: a value is not of its type.
    """
    if not (isinstance(shape, tuple) and isinstance(strides, tuple)):
        raise TypeError("not a shape")
    if not isinstance(storage, Storage) or len(shape) != len(strides):
        raise TypeError("not a tensor")
    if len(shape) > MAX_AXES:
        raise UserError(
            f"is damaged: a tensor with {len(shape)} axes; download it again"
        )
    numbers = (offset, *shape, *strides)
    if not all(type(n) is int and 0 <= n < 2**48 for n in numbers):
        raise UserError("is damaged: the size of a tensor is no size; download again")
    count = math.prod(shape)
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if count and (last >= storage.size or count > storage.size):
        raise UserError(
            f"is damaged: a tensor of {'x'.join(map(str, shape))} is larger than its "
            f"{storage.size} numbers; download it again"
        )
    return Tensor(storage, offset, shape, strides)

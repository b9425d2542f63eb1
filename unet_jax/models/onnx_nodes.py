"""The nodes and constants of an ONNX file, and the file itself."""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from unet_jax.errors import UserError

OPSET, IR_VERSION = 20, 9  # of onnx 1.15 and onnxruntime 1.17, or newer
MAX_BYTES = 2**31 - 2**20  # of a file in the format of protobuf; 1 MiB for the nodes


class Value(NamedTuple):
    """An input or an output of a file.

    Attributes:
      name: of the array.
      dtype: of its elements.
      shape: numbers, and words for sizes that may differ.
    """

    name: str
    dtype: Any
    shape: Sequence[int | str]


class Nodes:
    """The nodes and constants of a file, in the order of the computation.

    Equal constants are stored once: a network that is called for several views has its
    weights once.

    Attributes:
      nodes: the nodes.
      constants: arrays by name.
    """

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self._names: set[str] = set()
        self._stored: dict[tuple, str] = {}

    def add(
        self,
        scope: str,
        operator: str,
        *inputs: str,
        outputs: int = 1,
        **attributes: Any,
    ) -> str:
        """Adds a node, and returns the name of its first output.

        Args:
          scope: the layer that the node is named after.
          operator: of ONNX.
          *inputs: the names of its inputs.
          outputs: the number of its outputs.
          **attributes: of the operator.
        """
        from onnx import helper

        name = self._make_name(scope, operator)
        names = [name, *(f"{name}:{i}" for i in range(1, outputs))]
        node = helper.make_node(operator, inputs, names, name, **attributes)
        self.nodes.append(node)
        return name

    def constant(self, scope: str, kind: str, value: Any) -> str:
        """Adds an array, unless there is an equal one, and returns its name."""
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        content = hashlib.sha256(array.tobytes()).digest()
        key = array.dtype.str, array.shape, content
        if key not in self._stored:
            self._stored[key] = name = self._make_name(scope, kind)
            self.constants[name] = array
        return self._stored[key]

    def name_result(self, old: str, new: str) -> None:
        """Gives a name to the result of the last node."""
        assert self.nodes[-1].output[0] == old
        self.nodes[-1].output[0] = new

    def _make_name(self, scope: str, kind: str) -> str:
        names = (f"{scope}/{kind}{i or ''}" for i in itertools.count())
        name = next(name for name in names if name not in self._names)
        self._names.add(name)
        return name


def check_size(count: int, itemsize: int = 4) -> None:
    """Raises UserError if a file cannot hold this number of parameters."""
    if count * itemsize > MAX_BYTES:
        raise UserError(
            f"the network has {count * itemsize / 2**30:.3g} GiB of parameters, and an "
            "ONNX file holds at most 2 GiB"
        )


def serialize(
    nodes: Nodes,
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    metadata: Mapping[str, str],
) -> bytes:
    """Returns a checked ONNX file; equal arguments give equal bytes.

    Args:
      nodes: its content.
      inputs: of the file.
      outputs: of the file.
      metadata: written to the file as they are.

    Raises:
      ImportError: onnx is not installed.
    """
    import onnx
    from onnx import helper, numpy_helper

    def describe(value: Value) -> Any:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype))
        return helper.make_tensor_value_info(value.name, kind, value.shape)

    arrays = [numpy_helper.from_array(a, n) for n, a in nodes.constants.items()]
    graph = helper.make_graph(
        nodes.nodes,
        "unet",
        [describe(value) for value in inputs],
        [describe(value) for value in outputs],
        arrays,
    )
    file = helper.make_model(
        graph,
        producer_name="unet_jax",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    helper.set_model_props(file, dict(metadata))
    onnx.checker.check_model(file)
    return file.SerializeToString(deterministic=True)

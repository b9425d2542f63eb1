"""The nodes and constants of an ONNX graph, made from the layers of a U-Net."""

import itertools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from unet_jax.models.blocks import Sizes, broadcast_sizes
from unet_jax.models.unet import UNet


class Graph:
    """The nodes and constants of a graph, and the layers of the network it is made of.

    Attributes:
      nodes: the nodes, in the order of the computation.
      constants: arrays by name.
      layers: the modules of the network by their path, with all their fields.
      shapes: the spatial shape of the output of each, for one legal image.
      axes: the number of spatial axes.
    """

    def __init__(self, model: UNet, variables: Any, axes: int, channels: int) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self.layers: dict[str, Any] = {}
        self.shapes: dict[str, Sizes] = {}
        self.axes = axes
        self._names = set()

        def record(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            output = call(*args, **kwargs)
            path = "/".join(context.module.path)
            self.layers[path] = context.module
            self.shapes[path] = getattr(output, "shape", (0,))[1:-1]
            return output

        least = model.geometry(axes).valid_shape((1,) * axes)
        image = jnp.zeros((1, *least, channels))
        with nn.intercept_methods(record):
            jax.eval_shape(model.apply, variables, image)
        tree = {"batch_stats": {}, **variables}
        self._params, self._stats = (
            jax.tree.map(lambda x: np.asarray(x, np.float32), tree[part])
            for part in ("params", "batch_stats")
        )

    def add(self, scope: str, operator: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node of one output, and returns the name of the output."""
        from onnx import helper

        name = self._make_name(scope, operator)
        node = helper.make_node(operator, inputs, [name], name, **attributes)
        self.nodes.append(node)
        return name

    def constant(self, scope: str, kind: str, value: Any) -> str:
        """Adds an array, and returns its name."""
        name = self._make_name(scope, kind)
        self.constants[name] = np.ascontiguousarray(value)
        return name

    def params(self, path: str, part: str = "params") -> Mapping[str, Any]:
        """Returns the parameters of a layer, or its statistics ("batch_stats")."""
        tree = self._params if part == "params" else self._stats
        for name in path.split("/"):
            tree = tree[name]
        return tree

    def expand(self, sizes: Sizes) -> list[int]:
        """Returns kernels or strides with one number per axis."""
        return list(broadcast_sizes(sizes, self.axes))

    def _make_name(self, scope: str, kind: str) -> str:
        names = (f"{scope}/{kind}{i or ''}" for i in itertools.count())
        name = next(name for name in names if name not in self._names)
        self._names.add(name)
        return name

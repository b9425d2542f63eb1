"""The layers of a U-Net, and the ONNX nodes that are made from them."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from unet_jax.models.onnx_nodes import Nodes
from unet_jax.models.resizing import Sizes, broadcast_sizes
from unet_jax.models.unet import UNet


class Graph:
    """The layers of a network, and the file to which its nodes are added.

    Attributes:
      layers: the modules of the network by their path, with all their fields.
      shapes: the spatial shape of the output of each, for one legal image.
      channels: the number of channels of the output of each.
      axes: the number of spatial axes.

    Args:
      nodes: the nodes and constants of the file.
      model: the network.
      variables: its variables.
      axes: the number of spatial axes of the images.
      channels: the number of channels of the images.
      scope: begins the names of all nodes and constants.
      dtype: of the weights and of the images, float32 or float16.
    """

    def __init__(
        self,
        nodes: Nodes,
        model: UNet,
        variables: Any,
        *,
        axes: int,
        channels: int,
        scope: str = "",
        dtype: type = np.float32,
    ) -> None:
        self.layers: dict[str, Any] = {}
        self.shapes: dict[str, Sizes] = {}
        self.channels: dict[str, int] = {}
        self.axes = axes
        self._nodes, self._scope, self._dtype = nodes, scope, dtype

        def record(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            output = call(*args, **kwargs)
            path = "/".join(context.module.path)
            self.layers[path] = context.module
            shape = getattr(output, "shape", (0,))
            self.shapes[path], self.channels[path] = shape[1:-1], shape[-1]
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
        return self._nodes.add(self._scope + scope, operator, *inputs, **attributes)

    def constant(self, scope: str, kind: str, value: Any) -> str:
        """Adds an array, and returns its name.

        Numbers of float32 get the type of the weights; those of float64 become float32,
        for the inputs that must be.
        """
        array = np.asarray(value)
        types = {np.dtype("f4"): self._dtype, np.dtype("f8"): np.float32}
        array = array.astype(types.get(array.dtype, array.dtype))
        return self._nodes.constant(self._scope + scope, kind, array)

    def params(self, path: str, part: str = "params") -> Mapping[str, Any]:
        """Returns the parameters of a layer, or its statistics ("batch_stats")."""
        tree = self._params if part == "params" else self._stats
        for name in path.split("/"):
            tree = tree[name]
        return tree

    def expand(self, sizes: Sizes) -> list[int]:
        """Returns kernels or strides with one number per axis."""
        return list(broadcast_sizes(sizes, self.axes))

"""Random networks of PyTorch, and their outputs beside those of an import."""

import jax
import numpy as np

from unet_jax.models import UNet
from unet_jax.pytorch import recognise

TOLERANCE = 1e-4  # of an output that is about 1


def randomise(network, scale=1.0):
    """Draws all weights and statistics, so that no layer is the identity.

    The scales of norms are around `scale`; that of residual networks keeps their sums
    from growing.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    for name, tensor in network.state_dict().items():
        if tensor.dtype != torch.float32:
            continue
        if name.endswith("running_var") or (tensor.ndim == 1 and "weight" in name):
            factor = 1.0 if name.endswith("running_var") else scale
            tensor.uniform_(0.5 * factor, 1.5 * factor, generator=generator)
        elif tensor.ndim == 1:
            tensor.normal_(0, 0.2, generator=generator)
        else:
            fan = tensor[0].numel()
            tensor.normal_(0, (2 / fan) ** 0.5, generator=generator)
    return network.eval()


def compare(network, path, shape, *, outputs=None):
    """Returns the largest difference of the outputs for one image `[C, *S]`."""
    import torch

    imported = recognise(path)
    architecture = imported.architecture
    model = UNet(**{"dropout": 0.0, **architecture.model, "outputs": shape[0]})
    model = model.clone(outputs=outputs or architecture.outputs)
    image = np.random.default_rng(1).normal(size=(1, *shape)).astype("f4")
    with torch.no_grad():
        expected = np.moveaxis(network(torch.from_numpy(image)).numpy(), 1, -1)
    variables: dict = {"params": {}, "batch_stats": {}}
    for name, array in imported.load().items():
        *parts, last = name.split("/")
        tree = variables
        for part in parts:
            tree = tree.setdefault(part, {})
        tree[last] = array
    pixels = np.moveaxis(image, 1, -1)
    shapes = jax.eval_shape(model.init, jax.random.key(0), pixels)
    given = jax.tree.map(np.shape, variables["params"])
    assert given == jax.tree.map(lambda x: x.shape, shapes["params"])
    got = jax.jit(model.apply)(variables, pixels)
    assert np.abs(expected).max() > 0.1
    difference = float(np.abs(np.asarray(got) - expected).max())
    most = np.abs(expected).max()
    print(f"{architecture.name}: output {most:.2g}, difference {difference:.1e}")
    return difference

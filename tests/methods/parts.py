"""Small networks, batches and ingredients for the tests of methods."""

import functools
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from unet_jax import losses, tasks
from unet_jax.arrays import IGNORE
from unet_jax.methods import Ingredients

CLASSES = tasks.TaskData(classes=("background", "cell"), axes=2, channels=1)


def augment_nothing(key, example):
    return example


def fold_in_seeds(key, seed):
    """Returns one key for each seed."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, seed)


def ingredients(model, tx=None, **changes):
    """Returns ingredients: two classes, cross-entropy, no augmentation, SGD."""
    defaults = {
        "task": tasks.semantic(CLASSES),
        "loss": losses.combine_losses([(1.0, losses.cross_entropy)]),
        "augment": augment_nothing,
        "tx": tx or optax.sgd(0.5),
    }
    return Ingredients(model=model, **defaults | changes)


def host_batch(size=4, unlabelled=0, shape=(16, 16)):
    """Returns random images whose label is their sign; the last rows are unlabelled."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(size, *shape, 1)).astype("f4")
    label = (image[..., 0] > 0).astype("i4")
    weight = rng.uniform(0.5, 1.5, size=(size, *shape)).astype("f4")
    label[size - unlabelled :] = IGNORE
    weight[size - unlabelled :] = 0
    seed = np.arange(size, dtype="u4") * 7
    return {"image": image, "label": label, "weight": weight, "seed": seed}


class Linear(nn.Module):
    """Multiplies each pixel by one parameter for each of two outputs."""

    @nn.compact
    def __call__(self, image, *, train=False, seed=None):
        scale = self.param("scale", nn.initializers.ones, (2,))
        return image * scale.reshape(*[1] * (image.ndim - 1), 2)

    def geometry(self, axes):
        return SimpleNamespace(strides=((1,) * axes,))


class Small(nn.Module):
    """A convolution with the features of a network that methods must handle.

    Attributes:
      norm: batch norm.
      dropout: the rate of a dropout whose masks belong to the seeds.
      coarse: adds a second output in training, of every other pixel.
      padding: of the convolution; VALID removes a pixel on each side.
    """

    norm: bool = True
    dropout: float = 0.0
    coarse: bool = False
    padding: str = "SAME"

    @nn.compact
    def __call__(self, image, *, train=False, seed=None):
        x = nn.Conv(4, (3,) * (image.ndim - 2), padding=self.padding)(image)
        x = nn.BatchNorm(not train, momentum=0.9)(x) if self.norm else x
        x = nn.relu(x)
        if train and self.dropout:
            keys = fold_in_seeds(self.make_rng("dropout"), seed)
            draw = functools.partial(jax.random.uniform, shape=x.shape[1:])
            x = jnp.where(jax.vmap(draw)(keys) < self.dropout, 0, x)
        x = nn.Dense(2)(x)
        every_other = (slice(None), *[slice(1, None, 2)] * (image.ndim - 2))
        return (x, x[every_other]) if train and self.coarse else x

    def geometry(self, axes):
        return SimpleNamespace(strides=((1,) * axes, (2,) * axes))


def on_device(batch):
    return {name: jnp.asarray(rows) for name, rows in batch.items()}

"""A training step and a forward pass of one case, in unet_jax."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from cases import OUTPUTS, Case

from unet_jax import losses, methods, optimizers, parallel, runtime, tasks
from unet_jax.arrays import crop_centre
from unet_jax.methods import Ingredients
from unet_jax.methods.method import skip_non_finite
from unet_jax.models import UNet, onnx_unet

LEARNING_RATE = 1e-4
CLASSES = tasks.TaskData(classes=("background", "cell"), axes=2, channels=1)


class Contender(NamedTuple):
    """One library, with the network and the batch of a case.

    Attributes:
      train: `n -> losses`: takes n training steps, waits for them, and returns the
        losses before them; None for a library that only predicts.
      infer: `n -> logits`: runs n forward passes, waits for them, and returns the last
        logits, `f32[B, *S, K]`.
    """

    train: Any
    infer: Callable[[int], np.ndarray]


def draw_batch(case: Case) -> dict[str, np.ndarray]:
    """Returns random images; the label is the sign of the pixels of the output."""
    rng = np.random.default_rng(0)
    shape = case.batch, *(case.size,) * case.axes
    image = rng.normal(size=(*shape, 1)).astype(np.float32)
    inner = crop_centre(jnp.asarray(image), case.output_shape)[..., 0]
    label = np.asarray(inner > 0, np.int32)
    return {
        "image": image,
        "label": label,
        "weight": np.ones(label.shape, np.float32),
        "seed": np.arange(case.batch, dtype=np.uint32),
    }


def draw_variables(case: Case) -> Any:
    """Returns the variables of the network in Flax, drawn on the host."""
    shapes = jax.eval_shape(
        functools.partial(make_unet(case).init, jax.random.key(0)),
        jnp.zeros((1, *(case.size,) * case.axes, 1)),
    )
    rng = np.random.default_rng(1)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        name = path[-1].key
        if name != "kernel":
            fill = 1 if name in ("scale", "var") else 0
            return np.full(leaf.shape, fill, np.float32)
        deviation = np.sqrt(2 * leaf.shape[-1] / np.prod(leaf.shape))
        return rng.normal(0, deviation, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def make_unet(case: Case, **options: Any) -> UNet:
    """Returns the network of a case."""
    return UNet(
        widths=case.widths,
        outputs=OUTPUTS,
        padding=case.padding,
        norm=case.norm,
        dropout=0.0,
        dtype=jnp.dtype(case.dtype),
        **options,
    )


def make_jax(case: Case, **options: Any) -> Contender:
    """Returns the training step of unet_jax, as `--mode=train` runs it.

    Args:
      case: the network and the batch.
      options: fields of `UNet`.
    """
    model, batch = make_unet(case, **options), draw_batch(case)
    layout = parallel.pmap()
    method = methods.supervised(
        Ingredients(
            model=model.clone(axis_name=layout.axis_name),
            task=tasks.semantic(CLASSES),
            loss=losses.combine_losses([(1.0, losses.cross_entropy)]),
            augment=lambda key, example: example,
            tx=optimizers.adamw(
                lambda step: LEARNING_RATE, learning_rate=LEARNING_RATE
            ),
        )
    )
    variables = draw_variables(case)
    key = jax.random.key(0)
    state = layout.put_state(method.init(key, jnp.asarray(batch["image"]), variables))
    step = layout.compile_train(skip_non_finite(method.update))
    placed = jax.pmap(lambda x: x)(layout.put_batch(batch))
    forward = jax.jit(functools.partial(model.apply, train=False))
    image, variables = jax.device_put((batch["image"], variables))

    def train(count: int) -> list[float]:
        nonlocal state
        values = []
        for _ in range(count):
            state, scalars = step(state, placed, key)
            values.append(scalars["loss"])
        return [float(value) for value in values]

    def infer(count: int) -> np.ndarray:
        logits = [forward(variables, image) for _ in range(count)][-1]
        return np.asarray(jax.block_until_ready(logits))

    return Contender(train, infer)


def make_onnxruntime(case: Case) -> Contender:
    """Returns the forward pass of `config.predict.runtime=onnxruntime`."""
    model, batch = make_unet(case), draw_batch(case)
    write_graph = functools.partial(
        onnx_unet.write_unet, model, axes=case.axes, channels=1
    )
    sharding = parallel.local_devices().batch_sharding
    network = runtime.onnxruntime(model, write_graph, sharding)
    image = jax.device_put(batch["image"], sharding)
    member = network.place(draw_variables(case))
    program = network.compile(member, image.shape)

    def infer(count: int) -> np.ndarray:
        return np.asarray([program.run(member, image) for _ in range(count)][-1])

    return Contender(None, infer)

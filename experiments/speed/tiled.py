"""Tiled prediction against one forward pass of the whole image, in Mpixel/s.

Tiled prediction also decides the label of each pixel and joins the tiles on the host.
"""

import functools
import math
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from results import Result
from timing import find_ratios, time_in_turn

from unet_jax import inference, parallel, runtime, tasks, tiling
from unet_jax.models import UNet

SECTION = "tiled"
PAPER = (64, 128, 256, 512, 1024)


def measure(short: bool) -> Iterator[Result]:
    """Yields speeds of SAME networks and of the paper's VALID network.

    Args:
      short: True for tiny networks and images.
    """
    if short:
        small = functools.partial(make_network, (4, 8), "VALID")
        yield from compare(small(), (96, 96), (64, 64), rounds=1)
        return
    deep = make_network((16, 32, 64, 128, 256), "SAME")
    yield from compare(deep, (4096, 4096), (), rounds=2)
    quickstart = make_network((16, 32, 64, 128), "SAME")
    yield from compare(quickstart, (4096, 4096), (), rounds=2)
    yield from compare(make_network(PAPER, "VALID"), (768, 768), (572, 572), rounds=2)
    quarter = make_network(tuple(width // 4 for width in PAPER), "VALID")
    yield from compare(quarter, (4096, 4096), (), rounds=2)


def make_network(widths: tuple[int, ...], padding: str) -> UNet:
    """Returns a network without norm, whose tiles equal the whole image."""
    return UNet(
        widths=widths,
        padding=padding,  # pyright: ignore[reportArgumentType]
    )


def compare(
    network: UNet, shape: tuple[int, ...], edges: tuple[int, ...], rounds: int
) -> Iterator[Result]:
    """Yields the speeds of both, their ratio and the pixels that tiles compute again.

    Args:
      network: the network, for one channel.
      shape: of the image.
      edges: of a tile at most; () for those that unet_jax chooses.
      rounds: the number of measurements.
    """
    geometry = network.geometry(len(shape))
    image = np.random.default_rng(0).normal(size=(*shape, 1)).astype(np.float32)
    smallest = np.zeros((1, *geometry.valid_shape((1,) * len(shape)), 1), np.float32)
    variables = jax.jit(network.init)(jax.random.key(0), smallest)
    devices = parallel.local_devices()
    tiled = inference.Inference(
        runtime.xla(network, devices.put_state, devices.batch_sharding),
        geometry=network.geometry,
        task=tasks.semantic(tasks.TaskData(("background", "cell"), 2, 1)),
        channels=1,
        devices=devices,
        edges=edges,
    )
    read = functools.partial(_read_box, image)
    whole = tiling.plan_tiles(shape, geometry, edges=(10**6,) * len(shape))
    padded = tiling.read_tile(whole, next(iter(whole)), read)[None]
    forward = jax.jit(functools.partial(network.apply, train=False))
    member, placed = tiled.place(variables), jax.device_put(padded)
    sizes: list[int] = []
    seconds = time_in_turn(
        {
            "tiled": lambda: list(
                tiled.predict_images(
                    [member],
                    shape,
                    [read],
                    on_progress=lambda done, total: sizes.append(total),
                )
            ),
            "whole": lambda: jax.block_until_ready(forward(variables, placed)),
        },
        rounds,
    )
    most = tiling.find_max_pixels(geometry)
    plan = tiling.plan_tiles(shape, geometry, pixels=most, edges=edges)
    case = f"widths {network.widths}, {network.padding}, {shape[0]} px, "
    case += f"{plan.count} tiles of {plan.shape[0]} px"
    assert sizes[-1] == plan.count > 1
    pixels = math.prod(shape) / 1e6
    for name, values in seconds.items():
        speeds = tuple(pixels / value for value in values)
        yield Result(SECTION, case, "prediction", name, "Mpixel/s", speeds)
    ratios = find_ratios(seconds, "whole", "tiled")
    yield Result(SECTION, case, "speed", "tiled", "x whole", ratios)
    again = plan.count * math.prod(plan.shape) / math.prod(whole.shape)
    yield Result(SECTION, case, "computed pixels", "tiled", "x whole", (again,))


def _read_box(image: np.ndarray, box: Sequence[slice]) -> np.ndarray:
    return image[tuple(box)]

"""The best rate of matrix products, and the multiply-adds of a network."""

import math
from collections.abc import Callable, Iterator

import jax
from cases import OUTPUTS, Case
from results import Result
from timing import time_in_turn

SECTION = "matmul"
SIZES = (1024, 2048, 4096, 8192)
TOLERANCE = 0.05  # of the multiply-adds; XLA counts other operations, too


def measure(short: bool) -> Iterator[Result]:
    """Yields rates of products of square matrices, and checks the counts.

    Args:
      short: True for small matrices.
    """
    check_count(Case(16, size=64))
    gpu = jax.default_backend() == "gpu"
    for dtype in ("float32", "bfloat16") if gpu else ("float32",):
        for size in (256,) if short else SIZES:
            case = f"{size} x {size}, {dtype}"
            product = time_in_turn({"": _make_product(size, dtype)}, 1 if short else 3)
            rates = tuple(2 * size**3 / each / 1e9 for each in product[""])
            yield Result(SECTION, case, "matrix product", "jax", "GFLOP/s", rates)


def count_multiply_adds(case: Case, *, padding: bool = True) -> int:
    """Returns the multiply-adds of one forward pass of a network with SAME padding.

    Args:
      case: the network and the batch.
      padding: False leaves out the products with the zeros around the image, as XLA
        does.
    """
    total = case.size**case.axes * case.width * OUTPUTS
    for level, width in enumerate(case.widths):
        size = case.size // 2**level
        before = case.widths[level - 1] if level else 1
        # a kernel of 3 at each pixel of an axis, which reaches 1 pixel beyond each end
        products = (3 * size if padding else 3 * size - 2) ** case.axes
        total += products * (before + width) * width
        if level < case.levels - 1:
            coarse = case.widths[level + 1]
            total += size**case.axes * coarse * width  # one product for each fine pixel
            total += products * (2 * width + width) * width
    return case.batch * total


def count_training(case: Case) -> int:
    """Returns the multiply-adds of one training step of the network of a case.

    They are those of three forward passes, less those of the gradient of the image.
    """
    first = case.size**case.axes * 3**case.axes * case.width
    return 3 * count_multiply_adds(case) - case.batch * first


def check_count(case: Case) -> None:
    """Raises AssertionError if XLA counts other operations in a forward pass.

    Only for images: unet_jax computes a volume as sums of convolutions of its slices,
    which do include the zeros above and below.
    """
    import networks

    image = jax.ShapeDtypeStruct((case.batch, *(case.size,) * case.axes, 1), "float32")
    model, variables = networks.make_unet(case), networks.draw_variables(case)
    analysis = jax.jit(model.apply).lower(variables, image).cost_analysis() or {}
    ratio = analysis["flops"] / (2 * count_multiply_adds(case, padding=False))
    assert math.isclose(ratio, 1, rel_tol=TOLERANCE), f"{case}: XLA counts {ratio:.3f}"


def _make_product(size: int, dtype: str) -> Callable[[], object]:
    product = jax.jit(lambda a: a @ a)
    a = jax.random.normal(jax.random.key(0), (size, size), dtype)
    return lambda: jax.block_until_ready(product(a))

"""Peak memory of a process that trains, for unet_jax, with remat, and for PyTorch.

python experiments/speed/memory.py CONTENDER WIDTH SIZE BATCH takes the steps of one of
them. The peak includes compiling. The process of PyTorch also imports JAX, which draws
the weights. On a GPU, the memory of the process is not that of the device.
"""

import functools
import resource
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from cases import Case
from results import Result
from timing import ROOT, run_process

SECTION = "memory"
CONTENDERS = ("unet_jax", "unet_jax, remat", "eager")
STEPS = 2


def measure(short: bool) -> Iterator[Result]:
    """Yields the peak memory of each contender, and that of its imports, in GiB.

    Args:
      short: True for one tiny network.
    """
    cases = (Case(4, 64),) if short else (Case(32, 512), Case(32, 512, batch=4))
    contenders = CONTENDERS if find_spec("torch") else CONTENDERS[:2]
    for case in cases:
        name = f"width {case.width}, {case.size} px, batch {case.batch}"
        for contender in contenders:
            numbers = map(str, (case.width, case.size, case.batch))
            output = run_process([__file__, contender, *numbers]).output
            imports, peak = map(float, output.split()[-2:])
            quantities = {"peak memory": peak, "peak memory of the imports": imports}
            for quantity, value in quantities.items():
                yield Result(SECTION, name, quantity, contender, "GiB", (value,))


def read_peak() -> float:
    """Returns the peak resident memory of this process so far, in GiB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where getrusage starts with the peak of the parent
        line = next(x for x in status.read_text().splitlines() if "VmHWM" in x)
        return int(line.split()[1]) / 2**20
    # in bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30


def take_steps(contender: str, case: Case) -> None:
    """Takes training steps, and prints the peak memory before and after them."""
    if contender == "eager":
        from torch_unet import make_torch as make
    else:
        from networks import make_jax

        make = functools.partial(make_jax, remat="remat" in contender)
    imports = read_peak()
    make(case).train(STEPS)
    print(imports, read_peak())


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
    width, size, batch = map(int, sys.argv[2:])
    take_steps(sys.argv[1], Case(width, size, batch))

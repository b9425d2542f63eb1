"""Training steps and forward passes of unet_jax beside other libraries, in turn.

Outputs and losses are compared before anything is timed. Every round times every
contender once, so that other load on the machine affects all of them alike. The rate of
a pass counts the multiply-adds of plain convolutions; Winograd's filtering needs fewer.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec

import cases
import jax
import networks
import numpy as np
from cases import Case
from matmul import count_multiply_adds, count_training
from networks import Contender
from results import Result

SECTION = "network"
PASSES = {"train": "training step", "infer": "forward pass"}
PAUSE = 0.1  # seconds; idle threads of PyTorch spin for some milliseconds
ROUNDS = 3
SECONDS = 0.5  # of one measurement, at least
# Of the logits, relative to the largest one, and of the losses. GPUs multiply float32
# as TF32, with 10 bits.
TOLERANCE = {"float32": (1e-3, 1e-3), "TF32": (2e-2, 2e-2), "bfloat16": (1e-1, 5e-2)}


def list_makers() -> dict[str, Callable[[Case], Contender]]:
    """Returns the contenders that are installed; the first is unet_jax."""
    makers: dict[str, Callable[[Case], Contender]] = {"unet_jax": networks.make_jax}
    if jax.default_backend() == "cpu" and find_spec("onnxruntime"):
        makers["unet_jax, onnxruntime"] = networks.make_onnxruntime
    if find_spec("torch"):
        import torch_unet  # late: continuous integration has no PyTorch

        makers["eager"] = torch_unet.make_torch
        makers["compile"] = lambda case: torch_unet.make_torch(case, compiled=True)
    return makers


def measure(short: bool) -> Iterator[Result]:
    """Yields the seconds of every case, pass and contender, by `compare`."""
    if short:
        yield from compare(cases.list_short_cases(), rounds=1, seconds=0.0)
    elif jax.default_backend() != "cpu":
        yield from compare(cases.list_gpu_cases())
    else:
        yield from compare(cases.list_compiled_cases())
        quick = [name for name in list_makers() if name != "compile"]
        yield from compare(cases.list_cpu_cases(), quick)


def compare(
    rows: Iterable[Case],
    names: Iterable[str] = (),
    *,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
) -> Iterator[Result]:
    """Yields the seconds of a step, with the compared outputs.

    Args:
      rows: the networks and batches.
      names: the contenders, of `list_makers`; () for all of them.
      rounds: the number of measurements of each.
      seconds: the least time of one measurement.
    """
    makers = list_makers()
    for case in rows:
        contenders = {name: makers[name](case) for name in names or makers}
        check_equal(case, contenders)
        for what, quantity in PASSES.items():
            for name, times in _time_pass(what, contenders, rounds, seconds).items():
                yield Result(SECTION, str(case), quantity, name, "s", tuple(times))
                if case.padding == "SAME":
                    count = count_training if what == "train" else count_multiply_adds
                    rates = tuple(2 * count(case) / each / 1e9 for each in times)
                    rate = f"effective rate, {quantity}"
                    yield Result(SECTION, str(case), rate, name, "GFLOP/s", rates)


def check_equal(case: Case, contenders: dict[str, Contender]) -> None:
    """Raises AssertionError if logits, or the losses of two steps, differ."""
    cpu = jax.default_backend() == "cpu"
    exact = cpu or case.dtype == "bfloat16"
    logits_bound, loss_bound = TOLERANCE[case.dtype if exact else "TF32"]
    ours, *others = contenders
    logits, losses = _predict_and_train(contenders[ours])
    for name in others:
        other_logits, other_losses = _predict_and_train(contenders[name])
        bound = logits_bound * np.abs(logits).max()
        np.testing.assert_allclose(other_logits, logits, atol=bound, err_msg=name)
        if other_losses:
            np.testing.assert_allclose(
                other_losses, losses, rtol=loss_bound, err_msg=name
            )


def _predict_and_train(contender: Contender) -> tuple[np.ndarray, list[float]]:
    logits = contender.infer(1)
    return logits, contender.train(2) if contender.train else []


def _time_pass(
    what: str, contenders: dict[str, Contender], rounds: int, seconds: float
) -> dict[str, list[float]]:
    every = {name: getattr(contender, what) for name, contender in contenders.items()}
    runs = {name: run for name, run in every.items() if run}
    counts = {name: _choose_count(run, seconds) for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            time.sleep(PAUSE)
            times[name].append(_time(run, counts[name]))
    return times


def _time(run: Callable[[int], object], count: int) -> float:
    """Returns the seconds of one step, from `count` steps."""
    start = time.perf_counter()
    run(count)
    return (time.perf_counter() - start) / count


def _choose_count(run: Callable[[int], object], seconds: float) -> int:
    run(1)
    return max(1, round(seconds / _time(run, 1)))

"""SIGTERM and Ctrl-C as requests, so that a run can finish its step and save."""

import contextlib
import os
import signal
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils


@contextlib.contextmanager
def requests() -> Iterator[list[int]]:
    """A list that SIGTERM and Ctrl-C append to, so that the step can be finished.

    A second signal does not wait for that. Of several processes SIGTERM is JAX's, which
    tells the others; Ctrl-C becomes one.
    """
    asked: list[int] = []
    several = jax.process_count() > 1

    def request(number: int, _: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        if several:
            os.kill(os.getpid(), signal.SIGTERM)

    signals = (signal.SIGINT,) if several else (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(s, request) for s in signals]
    try:
        yield asked
    finally:
        for s, handler in zip(signals, before, strict=True):
            signal.signal(s, handler)


def due(asked: list[int], step: int) -> bool:
    """Whether to stop after this step; processes of one run agree on the step."""
    if jax.process_count() == 1:
        return bool(asked)
    return multihost_utils.reached_preemption_sync_point(step)


def code(asked: list[int]) -> int:
    """The exit code of a run that was stopped: 128 plus the number of the signal."""
    return 128 + (asked or [signal.SIGTERM])[0]

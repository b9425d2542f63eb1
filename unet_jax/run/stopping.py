"""SIGTERM and Ctrl-C as requests, so that a run can finish its step and save."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils

REPEAT = 1.0  # seconds; a scheduler and the worker of a sweep send the same request


@contextlib.contextmanager
def catch_signals() -> Iterator[list[int]]:
    """Collects SIGTERM and Ctrl-C in a list, so that the current step can finish.

    A second signal, `REPEAT` after the first one or later, raises KeyboardInterrupt at
    once. With several processes, JAX handles SIGTERM and informs the other processes;
    Ctrl-C is turned into SIGTERM. A thread other than the main one gets no signals, and
    its list stays empty.

    Yields:
      The numbers of the signals received so far.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    several, first = jax.process_count() > 1, 0.0

    def handle(number: int, _: object) -> None:
        nonlocal first
        if received and time.monotonic() - first >= REPEAT:
            raise KeyboardInterrupt
        if received:
            return
        received.append(number)
        first = time.monotonic()
        if several:
            os.kill(os.getpid(), signal.SIGTERM)

    signals = (signal.SIGINT,) if several else (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(s, handle) for s in signals]
    try:
        yield received
    finally:
        for s, handler in zip(signals, before, strict=True):
            signal.signal(s, handler)


def should_stop(received: list[int], step: int) -> bool:
    """Returns True if the run should stop after a step, the same in all processes."""
    if jax.process_count() == 1:
        return bool(received)
    return multihost_utils.reached_preemption_sync_point(step)


def exit_code(received: list[int]) -> int:
    """Returns the exit code of a stopped run: 128 plus the number of the signal."""
    return 128 + (received or [signal.SIGTERM])[0]

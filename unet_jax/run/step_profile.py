"""A profile of some training steps, for Perfetto and TensorBoard."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from unet_jax.errors import UserError
from unet_jax.logs import say, warn
from unet_jax.text import one_line

PROFILE = "profile"  # in the run folder


def check_span(span: Sequence[int], steps: int) -> None:
    """Raises UserError if a span begins after the last step of a run."""
    if span and span[0] > steps:
        raise UserError(
            f"config.profile={tuple(span)} begins after the last step; choose steps up "
            f"to {steps}, or raise config.steps"
        )


class StepProfile:
    """Records the operations of the steps from a first to a last one, in process 0.

    Args:
      span: the numbers of the first and the last step; () for no profile.
      workdir: the run folder.
      taken: the number of steps that the run has taken before.
    """

    def __init__(self, span: Sequence[int], workdir: Path, taken: int = 0) -> None:
        self._first, self._last = span or (0, 0)
        if jax.process_index() != 0:
            self._first, self._last = 0, 0
        self._folder = workdir / PROFILE
        self._running = False
        if span and self._last <= taken:
            say(f"no profile: the run has already taken the steps {tuple(span)}")

    def start(self, step: int, state: Any) -> None:
        """Starts before the first step of the span, when the state is ready."""
        if self._first <= step <= self._last and not self._running:
            jax.block_until_ready(state)  # steps before it may still be running
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
            self._running = True

    def stop(self, step: int, result: Any) -> None:
        """Waits for the result of the last step and writes the profile."""
        if self._running and step >= self._last:
            jax.block_until_ready(result)
            self.close()

    def close(self) -> None:
        """Writes a profile that was started; also that of an interrupted span."""
        if not self._running:
            return
        self._running = False
        try:
            jax.profiler.stop_trace()
        except (OSError, ValueError) as error:  # the training goes on
            warn(f"no profile in {self._folder}: {one_line(error)}")
            return
        traces = self._folder.rglob("perfetto_trace.json.gz")
        newest = max(traces, key=lambda path: path.stat().st_mtime)
        say(f"wrote {newest}; https://ui.perfetto.dev shows it")

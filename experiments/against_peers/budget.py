"""The minutes of training that each contender gets."""

import math
import time
from collections.abc import Callable, Iterator


class Budget:
    """A clock that drives the learning rate, so that a schedule ends with the minutes.

    The number of steps that fit is unknown before a run. A schedule over the share of
    the time needs no such number: iterating yields, before each step, the elapsed time
    divided by the budget, which takes the place of `step / steps`. It ends when the
    budget is spent, but not before one step.

    Attributes:
      steps: the number of finished steps.
      elapsed: the seconds from the first step to the last one.
    """

    def __init__(
        self, minutes: float, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.steps, self.elapsed = 0, 0.0
        self._seconds, self._clock = 60 * minutes, clock

    def __iter__(self) -> Iterator[float]:
        start = self._clock()
        while self.elapsed < self._seconds or not self.steps:
            yield self.elapsed / self._seconds
            self.steps += 1
            self.elapsed = self._clock() - start


def decay_cosine(progress: float) -> float:
    """Returns the factor of the learning rate: half a cosine, from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def decay_polynomial(progress: float, power: float = 0.9) -> float:
    """Returns the factor (1 - progress)^power of nnU-Net, from 1 to 0."""
    return (1 - progress) ** power

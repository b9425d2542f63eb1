"""The steps of training that each contender gets, and the seconds that they take."""

import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

WARM_UP = 2  # first steps, which are slower; they are not part of the speed


class Speed(NamedTuple):
    """The speed of a contender on one machine.

    Attributes:
      before: seconds that its first step takes longer: initialisation, compilation.
      step: seconds of each step.
    """

    before: float
    step: float

    def count_steps(self, minutes: float) -> int:
        """Returns the number of steps that fit into the minutes, at least one."""
        return max(1, int((60 * minutes - self.before) / self.step))


class Budget:
    """Counts the steps of a run and takes their times.

    Iterating yields, before each step, the share of the steps that are done, for the
    schedule of the learning rate. It ends after the steps, or once the seconds are
    over.

    Attributes:
      steps: the number of steps of the run.
      times: when the run began, and when each step ended, by `clock`.
    """

    def __init__(
        self,
        steps: int,
        seconds: float = math.inf,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.steps, self.times = steps, []
        self._seconds, self._clock = seconds, clock

    def __iter__(self) -> Iterator[float]:
        self.times = [self._clock()]
        for step in range(self.steps):
            yield step / self.steps
            self.times.append(self._clock())
            if self.times[-1] - self.times[0] >= self._seconds:
                return

    def find_speed(self) -> Speed:
        """Returns the speed by the times; needs more steps than `WARM_UP`."""
        start, times = self.times[0], self.times[WARM_UP:]
        step = (times[-1] - times[0]) / (len(times) - 1)
        return Speed(max(0.0, times[0] - start - WARM_UP * step), step)


def decay_cosine(progress: float) -> float:
    """Returns the factor of the learning rate: half a cosine, from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def decay_polynomial(progress: float, power: float = 0.9) -> float:
    """Returns the factor (1 - progress)^power of nnU-Net, from 1 to 0."""
    return (1 - progress) ** power

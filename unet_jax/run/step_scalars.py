"""The scalars of the steps since the last line of the log, and the skipped steps."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import optax

from unet_jax.methods.method import Scalars
from unet_jax.text import listing

SKIPPED = "skipped"  # the scalar of a step: 1 if it was skipped, else 0
WAITING, SKIPPED_BEFORE = "waiting", "skipped_before"  # keys of the saved form
SKIPPED_IN_ALL = "skipped_in_all"

HostScalars = dict[str, float | None]  # None is a number that is not finite


class StepScalars:
    """The scalars of steps that are not in the log yet.

    They stay on the device until `fetch`, so that the steps do not wait for the host.

    Args:
      saved: the metadata of the checkpoint that the run resumes from; see `to_json`.
    """

    def __init__(self, saved: Mapping[str, Any] | None = None) -> None:
        saved = saved or {}
        self._steps: list[Any] = list(saved.get(WAITING, []))
        self._in_a_row: int = saved.get(SKIPPED_BEFORE, 0)  # before these steps
        self._in_all: int = saved.get(SKIPPED_IN_ALL, 0)  # before these steps

    def add(self, scalars: Scalars) -> None:
        """Adds the scalars of the next step."""
        self._steps.append(scalars)

    def fetch(self) -> None:
        """Copies the scalars to the host; the other methods need this first."""
        self._steps = [
            {name: _finite(value) for name, value in scalars.items()}
            for scalars in jax.device_get(self._steps)
        ]

    def to_json(self) -> dict[str, Any]:
        """Returns the content as JSON data, for the metadata of a checkpoint."""
        return {
            WAITING: list(self._steps),
            SKIPPED_BEFORE: self._in_a_row,
            SKIPPED_IN_ALL: self._in_all,
        }

    def clear(self) -> None:
        """Removes all steps, after their line of the log is written."""
        self._in_a_row = self.count_skipped_in_a_row()
        self._in_all += sum(map(_is_skipped, self._steps))
        self._steps = []

    def count_skipped_in_a_row(self) -> int:
        """Returns the number of skipped steps since the last step that was taken."""
        row = self._in_a_row
        for scalars in self._steps:
            row = row + 1 if _is_skipped(scalars) else 0
        return row

    def average(self) -> HostScalars:
        """Returns the mean of each scalar over the steps that were not skipped.

        The mean is None if all were skipped. `skipped` is the number of skipped steps,
        and is left out if it is 0.
        """
        taken = [scalars for scalars in self._steps if not _is_skipped(scalars)]
        names = sorted(self._steps[0].keys() - {SKIPPED})
        means: HostScalars = {
            name: sum(s[name] for s in taken) / len(taken) if taken else None
            for name in names
        }
        skipped = len(self._steps) - len(taken)
        return means | ({SKIPPED: skipped} if skipped else {})

    def summarize(
        self, schedule: optax.Schedule, step: int, speed: float | None
    ) -> HostScalars:
        """Returns the scalars of a line of the log, by the names of the log.

        Args:
          schedule: the learning rate, by the number of updates. A skipped step is no
            update.
          step: the last step that was added.
          speed: images per second.
        """
        means = self.average()
        updates = step - 1 - self._in_all - sum(map(_is_skipped, self._steps[:-1]))
        return {
            "train/loss": means.pop("loss"),
            "train/learning_rate": float(schedule(updates)),
            "train/images_per_second": speed,
            **{f"train/{name}": mean for name, mean in means.items()},
        }

    def list_skipped(self, step: int) -> list[int]:
        """Returns the skipped steps; `step` is the last step that was added."""
        first = step - len(self._steps) + 1
        return [first + i for i, s in enumerate(self._steps) if _is_skipped(s)]

    def describe_skipped(self, step: int) -> str:
        """Returns a warning about the skipped steps; '' if there are none."""
        if not (skipped := self.list_skipped(step)):
            return ""
        last: HostScalars = self._steps[skipped[-1] - step - 1]
        names = [name for name, value in sorted(last.items()) if value is None]
        causes = listing(names) or "the new state"
        return f"skipped step {listing(skipped)}; not finite: {causes}"


def _is_skipped(scalars: Mapping[str, Any]) -> bool:
    return bool(scalars.get(SKIPPED))  # older runs have not counted them


def _finite(value: Any) -> float | None:
    """Returns a number; None if it is not finite."""
    return float(value) if value is not None and math.isfinite(value) else None

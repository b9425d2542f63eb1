import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

from unet_jax.checkpoint import Checkpoints
from unet_jax.errors import UserError

HERE = SingleDeviceSharding(jax.devices()[0])


def like(size):
    return {"a": jax.ShapeDtypeStruct((size,), jnp.float32, sharding=HERE), "b": ()}


def state(value):
    return {"a": jnp.full(3, value, jnp.float32), "b": ()}


def worth(score):
    return {} if score is None else {"val/dice": score, "val/iou": 1 - score}


def test_the_latest_two_and_the_best_stay(tmp_path):
    scores = {1: 0.1, 2: 0.9, 3: 0.5, 4: None, 5: 0.9, 6: None, 7: None}
    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        assert checkpoints.latest is None
        assert checkpoints.best is None
        for step, score in scores.items():
            checkpoints.save(step, state(step), {"step": [step]}, worth(score))
    kept = sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir())
    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        assert checkpoints.latest == 7
        best = checkpoints.best
        assert best in (2, 5)
        assert kept == [best, 6, 7]
        np.testing.assert_array_equal(
            checkpoints.restore(best, like(3))["a"], [best] * 3
        )
        assert checkpoints.about(best) == {"step": [best]}
    with Checkpoints(tmp_path, "val/iou") as checkpoints:
        assert checkpoints.best == best  # of those that are left
    with (
        Checkpoints(tmp_path, "val/recall") as checkpoints,
        pytest.raises(UserError, match="scored by val/recall; begin config.metrics"),
    ):
        _ = checkpoints.best


def test_a_score_that_does_not_exist_is_the_worst(tmp_path):
    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        for step, score in ((1, 0.1), (2, None), (3, None)):
            checkpoints.save(step, state(step), None, {"val/dice": score})
    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        assert checkpoints.best == 1


def test_without_scores_the_newest_is_best(tmp_path):
    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        checkpoints.save(3, state(3), None, {})
        checkpoints.wait()
        assert checkpoints.best == 3


def test_a_damaged_file_is_one_line(tmp_path):
    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        checkpoints.save(3, state(3), None, {})
        checkpoints.wait()
        with pytest.raises(UserError, match=r"checkpoints/3 is damaged"):
            checkpoints.restore(3, like(4) | {"c": like(4)["a"]})
        for file in (tmp_path / "checkpoints/3/state").rglob("*"):
            if file.is_file():
                file.write_bytes(b"")
        with pytest.raises(UserError, match=r"checkpoints/3 is damaged"):
            checkpoints.restore(3, like(3))

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

from unet_jax.checkpoint import Checkpoints, split
from unet_jax.errors import UserError

HERE = SingleDeviceSharding(jax.devices()[0])


def like(size):
    array = jax.ShapeDtypeStruct((size,), jnp.float32, sharding=HERE)
    return {"a": array, "b": (), "c": [array]}


def state(value):
    a, c = (jnp.full(3, x, jnp.float32) for x in (value, -value))
    return {"a": a, "b": (), "c": [c]}


def variables(state):
    return {"params": state["a"], "batch_stats": state["b"]}


def worth(score):
    return {} if score is None else {"val/dice": score, "val/iou": 1 - score}


def test_the_latest_two_and_the_best_stay(tmp_path):
    scores = {1: 0.1, 2: 0.9, 3: 0.5, 4: None, 5: 0.9, 6: None, 7: None}
    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        assert checkpoints.latest is None
        assert checkpoints.best is None
        for step, score in scores.items():
            checkpoints.save(
                step, state(step), variables, {"step": [step]}, worth(score)
            )
    kept = sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir())
    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        assert checkpoints.latest == 7
        best = checkpoints.best
        assert best in (2, 5)
        assert kept == [best, 6, 7]
        np.testing.assert_array_equal(
            checkpoints.restore(best, like(3), variables)["a"], [best] * 3
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
            checkpoints.save(step, state(step), variables, None, {"val/dice": score})
    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        assert checkpoints.best == 1


def test_without_scores_the_newest_is_best(tmp_path):
    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        checkpoints.save(3, state(3), variables, None, {})
        checkpoints.wait()
        assert checkpoints.best == 3


def test_a_damaged_file_is_one_line(tmp_path):
    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        checkpoints.save(3, state(3), variables, None, {})
        checkpoints.wait()
        with pytest.raises(UserError, match=r"checkpoints/3 is damaged"):
            checkpoints.restore(3, like(4) | {"d": like(4)["a"]}, variables)
        for file in (tmp_path / "checkpoints/3/variables").rglob("*"):
            if file.is_file():
                file.write_bytes(b"")
        with pytest.raises(UserError, match=r"checkpoints/3 is damaged"):
            checkpoints.restore(3, like(3), variables)


def test_each_array_is_in_one_of_two_parts(tmp_path):
    """Prediction reads the variables alone, whatever becomes of the rest."""
    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        checkpoints.save(3, state(3), variables, None, {})
        checkpoints.wait()
        parts = split(like(3), variables)
        assert list(parts.training) == ["c.0"]
        back = checkpoints.restore(3, like(3), variables)
        jax.tree.map(np.testing.assert_array_equal, back, state(3))
        shutil.rmtree(tmp_path / "checkpoints/3/training")
        seen = checkpoints.variables(3, parts.variables)
        np.testing.assert_array_equal(seen["params"], [3, 3, 3])
        assert checkpoints.shapes(3)["params"].shape == (3,)


def test_the_lowest_loss_is_best(tmp_path):
    with Checkpoints(tmp_path, "val/loss") as checkpoints:
        for step, loss in ((1, 0.9), (2, 0.1), (3, 0.5), (4, None)):
            checkpoints.save(step, state(step), variables, None, {"val/loss": loss})
        checkpoints.wait()
        assert checkpoints.best == 2


def test_the_format_of_earlier_versions_is_named(tmp_path):
    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        checkpoints.save(3, state(3), variables, None, {})
        checkpoints.wait()
        (tmp_path / "checkpoints/3/variables").rename(tmp_path / "checkpoints/3/state")
        with pytest.raises(UserError, match=r"3 is of the format before 0.2.*train ag"):
            checkpoints.variables(3, like(3))

from unet_jax.configs import base
from unet_jax.run.planning import drafts
from unet_jax.run.planning.rules import PlannedField


def test_set_fields_changes_a_copy():
    config = base.get_config()
    config.predict.tile = config.get_ref("crop")
    before = config.to_json()
    fields = [
        PlannedField("crop", (64, 32), ""),
        PlannedField("model.widths", (3, 6), ""),
        PlannedField("weight_map", {"name": "frequency", "shares": (0.99, 0.01)}, ""),
        PlannedField("spacing", (1.0, 2.0), ""),
    ]
    changed = drafts.set_fields(config, fields)
    assert changed.model.widths == (3, 6)
    assert changed.spacing == (1.0, 2.0)
    assert changed.weight_map.to_dict() == fields[2].value
    assert changed.crop == changed.predict.tile == (64, 32)
    assert config.to_json() == before

from unet_jax.errors import choices


def test_choices_name_the_nearest_and_all():
    assert choices("dyce", ["focal", "dice"]) == (
        "did you mean 'dice'? there are: dice, focal"
    )
    assert choices("xyz", []) == "there are: none"

from unet_jax.errors import suggest


def test_a_suggestion_is_the_nearest_name_and_all_names():
    assert suggest("dyce", ["focal", "dice"]) == (
        "did you mean 'dice'? available: dice, focal"
    )
    assert suggest("xyz", []) == "available: none"

"""Parts of a source, and labels that are withheld."""

from unet_jax.data.source import Source, subset, withhold_labels


def numbered(**more):
    """Five records whose image and label are their number."""

    def load(i):
        return {"image": i, "label": 10 * i, "instances": i, "id": f"r{i}"} | more

    pixels = {0: 3, 1: 4}
    return Source("s/train", ("a", "b"), (), 1, 5, load, pixels=pixels)


def test_a_subset_has_its_own_order_and_count():
    part = subset(numbered(), [3, 0], "s/val")
    assert [part.load(i)["id"] for i in range(part.length)] == ["r3", "r0"]
    assert part.name == "s/val"
    assert part.pixels is None  # they were those of all records


def test_labels_are_withheld_from_all_but_some():
    labelled, others = withhold_labels(numbered(), (1, 4), "s/unlabelled")
    assert [labelled.load(i)["id"] for i in range(labelled.length)] == ["r1", "r4"]
    assert labelled.load(1)["label"] == 40
    assert (labelled.name, others.name) == ("s/train", "s/unlabelled")
    assert [others.load(i) for i in range(others.length)] == [
        {"image": i, "id": f"r{i}"} for i in (0, 2, 3)
    ]


def test_images_without_labels_keep_the_size_of_their_pixels():
    _, others = withhold_labels(numbered(spacing=(1.0, 2.0)), (1,), "s/unlabelled")
    assert others.load(0)["spacing"] == (1.0, 2.0)

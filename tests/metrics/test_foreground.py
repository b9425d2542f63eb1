import numpy as np

from unet_jax.metrics import foreground


def test_exclusive_classes(make_image):
    p = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.0, 0.0, 1.0]])
    image = make_image([0, 2, -1], [0, 1, 2], probabilities=p)
    assert foreground.get_annotated(image).tolist() == [True, True, False]
    assert foreground.get_truth(image).tolist() == [False, True, False]
    assert foreground.get_prediction(image).tolist() == [False, True, False]
    assert foreground.get_probability(image).tolist() == [0.5, 0.75, 0]


def test_independent_classes_must_all_be_annotated(make_image):
    p = np.array([[0.5, 0.25], [0.25, 0.75], [1.0, 1.0]])
    truth, prediction = [[0, 0], [0, 1], [1, -1]], [[1, 0], [1, 1], [1, 1]]
    image = make_image(truth, prediction, independent=True, probabilities=p)
    assert foreground.get_annotated(image).tolist() == [True, True, False]
    assert foreground.get_truth(image).tolist() == [False, True, False]
    assert foreground.get_prediction(image).tolist() == [True, True, False]
    assert foreground.get_probability(image).tolist() == [0.5, 0.75, 0]

import numpy as np


def test_exclusive_classes(make_image):
    p = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.0, 0.0, 1.0]])
    image = make_image([0, 2, -1], [0, 1, 2], probabilities=p)
    assert image.fully_annotated.tolist() == [True, True, False]
    assert image.true_foreground.tolist() == [False, True, False]
    assert image.predicted_foreground.tolist() == [False, True, False]
    assert image.foreground_probability.tolist() == [0.5, 0.75, 0]


def test_independent_classes_must_all_be_annotated(make_image):
    p = np.array([[0.5, 0.25], [0.25, 0.75], [1.0, 1.0]])
    truth, prediction = [[0, 0], [0, 1], [1, -1]], [[1, 0], [1, 1], [1, 1]]
    image = make_image(truth, prediction, independent=True, probabilities=p)
    assert image.fully_annotated.tolist() == [True, True, False]
    assert image.true_foreground.tolist() == [False, True, False]
    assert image.predicted_foreground.tolist() == [True, True, False]
    assert image.foreground_probability.tolist() == [0.5, 0.75, 0]

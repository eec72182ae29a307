"""Batches of all kinds of data for `record_excitations` and `export`, and their number."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from se_keras.support.batches import read_batches
from se_keras.support.errors import InputError


class Numbers(keras.utils.PyDataset):
    """A data set of `batches` batches of one number."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    @property
    def num_batches(self):
        return self.batches

    def __getitem__(self, index):
        return np.array([index])


@pytest.mark.parametrize(
    ("data", "number"),
    [
        (Numbers(3), 3),
        (Numbers(None), math.inf),
        ([[0], [1], [2]], 3),
        (([n] for n in range(3)), None),
        (tf.data.Dataset.range(3).batch(1), 3),
        (tf.data.Dataset.range(3).batch(1).repeat(), math.inf),
        (tf.data.Dataset.range(3).batch(1).filter(lambda x: True), None),
    ],
)
def test_batches_come_with_their_number(data, number):
    batches, counted = read_batches("data", data, "batches")
    assert counted == number
    assert [int(batch[0]) for batch, _ in zip(batches, range(3), strict=False)] == [0, 1, 2]


@pytest.mark.parametrize("data", [None, 3, keras.Model()])
def test_what_has_no_batches_is_refused(data):
    kind = type(data).__name__
    with pytest.raises(InputError, match=f"`calibration` must be a folder, got {kind}"):
        read_batches("calibration", data, "a folder")

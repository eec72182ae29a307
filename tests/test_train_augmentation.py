"""Test mixup, CutMix and RandAugment: images, seeds and descriptions."""

import dataclasses

import keras
import numpy as np
import pytest

from se_keras.train import InputError, TrainConfig, data, report
from se_keras.train.augmentation import Augmentation
from se_keras.train.cluster import Team

BATCH = 16


LEVELS = np.arange(32, dtype="uint8") * 8


@pytest.fixture(scope="module")
def marked():
    """Gray images of one level each, a class each."""
    found = data.prepare(data.open_data(TrainConfig(data="digits").completed()))
    train = data.Split(
        items=np.broadcast_to(LEVELS[:, None, None, None], (32, 24, 24, 1)).copy(),
        labels=np.arange(32),
        names=LEVELS.astype(str),
    )
    still = dataclasses.replace(found.defaults, shift=0)
    names = tuple(map(str, LEVELS))
    return dataclasses.replace(found, train=train, size=24, defaults=still, class_names=names)


def batches(found, epochs=(0, 1), weights=None, **more):
    drawn, _ = data.training_batches(
        found, BATCH, 5, range(*epochs), more=Augmentation(**more), weights=weights
    )
    return [[part.numpy() for part in batch] for batch in drawn]


def test_mixup_blends_images_and_labels_in_the_same_shares(marked):
    drawn = batches(marked, (0, 4), mixup=0.5)
    images, labels = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    levels = np.broadcast_to((labels @ LEVELS)[:, None, None, None], images.shape)
    np.testing.assert_allclose(images, levels, atol=1e-3)
    np.testing.assert_allclose(labels.sum(1), 1, rtol=1e-5)
    # Beta(1/2, 1/2) is below 0.05 or above 0.95 in 28.7 % of its draws: arcsin(sqrt(x)) 2 / pi.
    assert 0.55 < np.mean(labels.max(1) < 0.95) < 0.85
    assert len(np.unique(np.round(labels.max(1), 5))) > 80


def test_cutmix_puts_a_rectangle_of_one_image_into_another(marked):
    drawn = batches(marked, (0, 4), cutmix=1.0)
    for image, label in ((x, y) for pair in drawn for x, y in zip(*pair, strict=True)):
        for level, share in zip(LEVELS, label, strict=True):
            # The border lies anywhere between pixels.
            assert abs(np.mean(image == level) - share) < 0.1
    labels = np.concatenate([y for _, y in drawn])
    assert 0.4 < np.mean(labels.max(1) < 0.9) < 1


def test_with_both_each_batch_gets_one_of_them(marked):
    drawn = batches(marked, (0, 8), mixup=1.0, cutmix=1.0)
    one_level = [(np.ptp(images, axis=(1, 2, 3)) == 0).all() for images, _ in drawn]
    assert 3 <= sum(one_level) <= 13


@pytest.mark.parametrize(
    "more", [{"mixup": 0.5}, {"cutmix": 0.5}, {"rand_augment": 0.3, "mixup": 1.0, "cutmix": 1.0}]
)
def test_what_is_drawn_follows_from_the_epoch_and_the_seed(more, marked):
    whole, late = batches(marked, (0, 2), **more), batches(marked, (1, 2), **more)
    for expected, got in zip(whole[len(late) :], late, strict=True):
        for a, b in zip(expected, got, strict=True):
            np.testing.assert_array_equal(a, b)
    sums = [images.sum() for images, _ in whole]
    assert len(set(sums)) == len(sums)


def test_rand_augment_changes_each_image_in_its_own_way(marked):
    image = np.random.default_rng(0).integers(0, 256, (24, 24, 1), "uint8")
    train = dataclasses.replace(marked.train, items=np.stack([image] * 32))
    ((images, labels), _) = batches(dataclasses.replace(marked, train=train), rand_augment=0.5)
    assert 0 <= images.min() < images.max() <= 255
    assert len({x.tobytes() for x in images}) > BATCH / 2
    assert set(np.unique(labels)) == {0, 1}


def test_mixed_labels_keep_the_weights_of_their_classes(marked):
    """The loss is the sum over classes of weight times target times -log probability."""
    weights = np.random.default_rng(1).uniform(0.2, 3, 32)
    probabilities = np.random.default_rng(2).dirichlet(np.ones(32), BATCH)
    plain, weighed = batches(marked, mixup=0.5), batches(marked, mixup=0.5, weights=weights)
    for (_, labels), (_, targets, of_images) in zip(plain, weighed, strict=True):
        expected = -(weights * labels * np.log(probabilities)).sum(axis=1)
        loss = keras.losses.CategoricalCrossentropy(reduction="none")(targets, probabilities)
        np.testing.assert_allclose(np.array(loss) * of_images, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"mixup": 0.05}, r"`mixup` must be a number in \[0.1, 1\], got 0.05"),
        ({"cutmix": 1.5}, r"`cutmix` must be a number in \[0.1, 1\], got 1.5"),
        ({"rand_augment": 0}, r"`rand_augment` must be a number in \(0, 1\], got 0"),
    ],
)
def test_augmentation_out_of_its_range_is_named(setting, message):
    with pytest.raises(InputError, match=message):
        TrainConfig(**setting)


def test_the_plan_says_how_images_are_changed(tmp_path, marked):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    settings = TrainConfig(mixup=0.2, rand_augment=0.5, batch_size=64).completed()
    found, team = data.open_data(settings), Team(devices=("CPU:0",))
    text = report.announcement(settings, found, model, tmp_path, team)
    asked = "shifts by up to 1 px, RandAugment of up to 0.5, mixup with 0.2"
    assert f"\naugmentation: {asked}\n" in text
    plain = TrainConfig(batch_size=64).completed()
    assert "augmentation: none\n" in report.announcement(plain, marked, model, tmp_path, team)

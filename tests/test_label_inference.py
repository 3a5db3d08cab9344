"""Labels read from the last dense layer's gradient."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attack_observations import SIDE, observe, smooth_images, tiny_task
from gradiograph.attacks import idlg, infer_labels
from gradiograph.core.errors import BadSetting
from gradiograph.core.random import stream
from gradiograph.core.tensors import Batch
from gradiograph.protocols import FedAvg

CLASSES = 4
TASK = tiny_task(classes=CLASSES)
NO_BIAS = tiny_task(classes=CLASSES, bias=False)


def hidden(task, images, targets, protocol=None):
    return observe(task, Batch(images, torch.tensor(targets)), protocol, knows_labels=False)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, CLASSES - 1), st.integers(0, 1000), st.sampled_from([TASK, NO_BIAS]))
def test_the_label_of_one_image_is_exact(label, seed, task):
    image = torch.rand(1, 1, SIDE, SIDE, generator=stream(seed))
    assert infer_labels(hidden(task, image, [label]), stream(0)).tolist() == [label]


def test_the_label_of_one_image_is_exact_for_two_classes_and_after_local_steps():
    task = tiny_task(classes=2)
    for label in (0, 1):
        for protocol in (None, FedAvg(local_steps=4, learning_rate=1e-3)):
            observation = hidden(task, smooth_images(1), [label], protocol)
            assert infer_labels(observation, stream(0)).tolist() == [label]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=9),
    st.lists(st.floats(-3, 3), min_size=CLASSES, max_size=CLASSES),
)
def test_counts_are_exact_where_the_model_says_the_same_of_all_images(labels, logits):
    # With a dense weight of zero every image has the prediction softmax(bias), so that the offset is known exactly.
    task = tiny_task(classes=CLASSES)
    with torch.no_grad():
        task.model[-1].weight.zero_()
        task.model[-1].bias.copy_(torch.tensor(logits))
    images = torch.rand(len(labels), 1, SIDE, SIDE, generator=stream(1))
    assert infer_labels(hidden(task, images, labels), stream(0)).tolist() == sorted(labels)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, CLASSES - 1), min_size=2, max_size=6))
def test_counts_from_row_sums_where_the_layer_has_no_bias(labels):
    # The model says the same of all images; the sum of the features, and so the impact, is measured on noise.
    task = tiny_task(classes=CLASSES, bias=False)
    with torch.no_grad():
        task.model[-1].weight.zero_()
    observation = hidden(task, smooth_images(len(labels)), labels)
    assert infer_labels(observation, stream(0)).tolist() == sorted(labels)


def test_more_classes_that_look_present_than_images_keeps_the_strongest():
    observation = hidden(TASK, smooth_images(2), [0, 1])
    state, update = observation.rounds[0]
    planted = replace(update, tensors={**update.tensors, "5.bias": torch.tensor([-0.1, -0.3, -0.2, 0.6])})
    assert infer_labels(replace(observation, rounds=((state, planted),)), stream(0)).tolist() == [1, 2]


def test_a_model_without_a_dense_layer_of_classes_is_refused():
    observation = hidden(TASK, smooth_images(2), [0, 1])
    with pytest.raises(BadSetting, match="no dense layer with 7 outputs"):
        infer_labels(replace(observation, task=replace(TASK, num_classes=7)), stream(0))


def test_idlg_reads_the_labels_and_takes_granted_ones_as_they_are():
    batch = Batch(smooth_images(2), torch.tensor([3, 0]))
    attack = idlg(steps=1)
    assert attack(observe(TASK, batch, knows_labels=False), stream(0), lambda share: None).targets.tolist() == [0, 3]
    assert attack(observe(TASK, batch), stream(0), lambda share: None).targets.tolist() == [3, 0]


def test_labels_that_are_not_granted_are_not_looked_at():
    batch = Batch(smooth_images(1), torch.tensor([2]))
    observation = replace(observe(TASK, batch, knows_labels=False), labels=torch.tensor([0]))
    assert idlg(steps=1)(observation, stream(0), lambda share: None).targets.tolist() == [2]


def test_on_a_trained_network_public_films_tell_the_count_and_noise_does_not():
    """Bright films are of one class, dark ones of the other, and the network knows it; noise looks dark to it."""
    task = tiny_task(classes=2)
    films = torch.cat([torch.full((6, 1, SIDE, SIDE), 0.2), torch.full((6, 1, SIDE, SIDE), 0.8)])
    films = films + 0.1 * torch.rand(films.shape, generator=stream(3))
    labels = torch.tensor([0] * 6 + [1] * 6)
    optimiser = torch.optim.Adam(task.model.parameters(), lr=0.02)
    for _ in range(60):
        optimiser.zero_grad()
        task.loss(task.model(films), labels).mean().backward()
        optimiser.step()
    public, private = Batch(films[::2], labels[::2]), films[1::2]
    told, guessed = [], []
    for ones in range(1, 4):
        chosen = torch.cat([private[: 4 - ones], private[3 : 3 + ones]]) if ones < 4 else private[3:]
        truth = [0] * (len(chosen) - ones) + [1] * ones
        observation = hidden(task, chosen, truth)
        told.append(infer_labels(replace(observation, public=public), stream(0)).tolist() == truth)
        guessed.append(infer_labels(observation, stream(0)).tolist() == truth)
    assert all(told)
    assert not all(guessed)


def test_public_films_without_one_of_the_classes_are_refused():
    known = Batch(smooth_images(2), torch.tensor([0, 1]))
    observation = replace(hidden(TASK, smooth_images(2), [0, 1]), public=known)
    with pytest.raises(BadSetting, match="class 2 has none"):
        infer_labels(observation, stream(0))

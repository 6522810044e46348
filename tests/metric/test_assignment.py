"""The images behind one update come back in any order."""

import torch

from privsweep.interface.randomness import Rng
from privsweep.metric.assignment import match, nearest, reorder


def test_shuffled_images_find_their_originals():
    truth = torch.rand(3, 8, 1, 8, 8, generator=Rng(0).generator())
    shuffle = torch.stack([Rng(v).permutation(8) for v in range(3)])
    guess = reorder(truth, shuffle) + 0.1 * Rng(9).normal(*truth.shape)
    order = match(guess, truth)
    assert torch.equal(reorder(shuffle, order), torch.arange(8).expand(3, 8))


def test_every_reconstruction_is_used_once_at_the_least_total_error():
    truth = torch.tensor([0.0, 0.3])[None, :, None, None, None]
    guess = torch.tensor([0.2, 0.9])[None, :, None, None, None]  # the first is nearest to both originals
    assert match(guess, truth).tolist() == [[0, 1]]


def test_a_single_image_is_its_own_match():
    images = torch.rand(4, 1, 3, 8, 8)
    assert match(images, images).tolist() == [[0]] * 4


def test_labels_decide_between_images_that_are_alike_and_no_others():
    truth = torch.rand(1, 3, 1, 4, 4, generator=Rng(0).generator())
    grey = torch.full_like(truth, 0.5)
    theirs = torch.tensor([[2, 0, 1]])
    assert match(grey, truth, torch.tensor([[0, 1, 2]]), theirs).tolist() == [[2, 0, 1]]
    near = truth + 1e-3
    assert match(near, truth, torch.tensor([[0, 1, 2]]), theirs).tolist() == [[0, 1, 2]]


def test_the_nearest_pair_may_be_none_of_the_assignment():
    bright = torch.tensor([0.8, 3.0])[None, :, None, None, None]
    read = torch.tensor([0.8, 0.5])[None, :, None, None, None]  # the first exactly; grey is nearer to it, too
    assert match(read, bright).tolist() == [[1, 0]]
    assert torch.equal(torch.cat(nearest(read, bright), 1), bright[:, :1].expand(1, 2, 1, 1, 1))

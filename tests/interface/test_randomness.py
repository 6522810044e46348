import torch

from privsweep.interface.randomness import Rng


def test_a_purpose_has_its_own_stream() -> None:
    rng = Rng(0)
    assert torch.equal(rng.child("a").normal(4), rng.child("a").normal(4))
    assert not torch.equal(rng.child("a").normal(4), rng.child("b").normal(4))
    assert not torch.equal(rng.child("a").normal(4), Rng(1).child("a").normal(4))


def test_paths_of_words_and_numbers_do_not_collide() -> None:
    keys = {Rng(0).child(*path).key() for path in [("a", "b"), ("a,b",), ("a", 1), ("a", "1"), ("a1",), (1, "a")]}
    assert len(keys) == 6


def test_the_global_generator_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    Rng(3).child("x").permutation(5)
    assert torch.equal(before, torch.random.get_rng_state())

"""Every random draw has an owner, and depends on nothing else."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from invdiff.engine.distributed import randomness

WORDS = st.text("abcdefg é", min_size=1, max_size=8)
KEYS = st.lists(WORDS | st.integers(0, 10**6).map(str), max_size=4).map(tuple)


@given(st.integers(0, 2**40), KEYS, st.integers(0, 2**40), KEYS)
def test_different_owners_have_different_seeds(seed, keys, other_seed, other_keys):
    one, other = randomness.derive(seed, *keys), randomness.derive(other_seed, *other_keys)
    assert (one == other) == ((seed, keys) == (other_seed, other_keys))
    assert 0 <= one < 2**63


def test_seeds_are_the_same_on_every_machine_and_in_every_version():
    """Golden: whoever changes these changes the pictures of every run."""
    assert randomness.derive(0) == 4761921975702974394
    assert randomness.derive(7, "train", 12) == 612118232407348410


def test_an_owners_draws_do_not_depend_on_who_drew_before():
    first = torch.randn(4, generator=randomness.generator(0, "train", 3))
    torch.randn(100)
    torch.randn(100, generator=randomness.generator(0, "train", 2))
    assert torch.equal(first, torch.randn(4, generator=randomness.generator(0, "train", 3)))
    assert not torch.equal(first, torch.randn(4, generator=randomness.generator(0, "train", 4)))
    assert not torch.equal(first, torch.randn(4, generator=randomness.generator(1, "train", 3)))


def test_nothing_is_drawn_from_the_global_generator():
    before = torch.get_rng_state()
    randomness.generator(0, "a")
    randomness.epoch_order(10, 0, 1)
    randomness.batch_indices(10, 3, 0, 2)
    assert torch.equal(before, torch.get_rng_state())


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 20))
def test_steps_are_slices_of_one_endless_order(count, batch, step):
    """The order is there before it is cut: however large the batches, the same images follow."""
    one_by_one = [randomness.batch_indices(count, 1, 5, n) for n in range((step + 1) * batch)]
    found = randomness.batch_indices(count, batch, 5, step)
    assert torch.equal(found, torch.cat(one_by_one)[step * batch :])


@given(st.integers(1, 40), st.integers(0, 5))
def test_every_epoch_shows_every_image_once(count, epoch):
    images = randomness.batch_indices(count, count, 5, epoch)
    assert sorted(images.tolist()) == list(range(count))


def test_epochs_and_seeds_are_shuffled_differently():
    orders = [tuple(randomness.batch_indices(30, 30, seed, epoch).tolist())
              for seed in (0, 1) for epoch in (0, 1)]  # fmt: skip
    assert len(set(orders)) == 4

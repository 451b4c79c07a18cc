"""Seeds depend on their place alone."""

import torch

from segpipe.training.seed import derived_seed, generator, seed_global


def test_every_place_has_its_own_seed_and_keeps_it() -> None:
    places = [(seed, kind, step, rank) for seed in range(3) for kind in ("patch", "augment") for step in range(5) for rank in range(2)]
    assert len({derived_seed(*place) for place in places}) == len(places)
    assert derived_seed(1, "patch", 2, 3) == derived_seed(1, "patch", 2, 3)


def test_seeds_are_the_same_on_every_machine() -> None:
    assert derived_seed(0, "weights") == 8432303663033437212
    assert 0 <= derived_seed(7, "patch", 123456, 15) < 2**63


def test_a_generator_repeats_what_it_drew() -> None:
    assert torch.equal(torch.rand(5, generator=generator(3, "x")), torch.rand(5, generator=generator(3, "x")))


def test_the_global_generator_is_set_as_torch_sets_it() -> None:
    torch.manual_seed(12)
    expected = torch.rand(4)
    seed_global(12, torch.device("cpu"))
    assert torch.equal(torch.rand(4), expected)

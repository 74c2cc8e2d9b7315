"""Every image has its own random numbers."""

import pytest
import torch

from lightning_modules.diffusion.noise import rand, randn


def generators(num: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(num)]


@pytest.mark.parametrize("draw", [rand, randn])
def test_image_i_is_the_same_in_any_batch(draw) -> None:  # type: ignore[no-untyped-def]
    many = draw((64, 3, 5, 5), generators(64))
    assert draw((1, 3, 5, 5), generators(18)[17:])[0].equal(many[17])
    assert draw((3, 5, 5), torch.Generator().manual_seed(17)).equal(many[17])
    assert not many[0].equal(many[1])


def test_a_generator_leaves_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    randn((2, 3), generators(2))
    randn((2, 3), torch.Generator())
    assert torch.get_rng_state().equal(before)
    randn((2, 3))
    assert not torch.get_rng_state().equal(before)


def test_one_generator_per_image() -> None:
    with pytest.raises(ValueError, match="2 generators for 3 images"):
        randn((3, 4), generators(2))

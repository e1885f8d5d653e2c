"""Distortions against closed forms and against scipy's own affine transform; drawn parameters replay."""

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from geovae.data.affine import AffineParameters, apply_affine, draw_affine


def parameters(angle=0.0, right=0.0, down=0.0, scale=1.0, shear=0.0, n=1) -> AffineParameters:
    shift = torch.tensor([[right, down]]).repeat(n, 1)
    return AffineParameters(
        *(torch.full((n,), v) for v in (angle,)), shift, torch.full((n,), scale), torch.full((n,), shear)
    )


@pytest.fixture
def image(generator) -> torch.Tensor:
    return torch.randint(0, 256, (1, 3, 8, 12), generator=generator, dtype=torch.uint8)


def test_the_identity_changes_nothing(image):
    assert torch.equal(apply_affine(image, parameters()), image)


def test_a_shift_by_whole_pixels_moves_them(image):
    moved = apply_affine(image, parameters(right=2.0, down=1.0))
    assert torch.equal(moved[..., 1:, 2:], image[..., :-1, :-2])
    assert not moved[..., :1, :].any()
    assert not moved[..., :2].any()


def test_a_quarter_turn_turns(generator):
    square = torch.randint(0, 256, (1, 1, 9, 9), generator=generator, dtype=torch.uint8)
    turned = apply_affine(square, parameters(angle=torch.pi / 2))
    assert torch.equal(turned, square.rot90(-1, (2, 3)))  # y points down: a positive angle turns clockwise


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_scipy(seed):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (1, 1, 32, 32), generator=generator, dtype=torch.uint8)
    drawn = draw_affine(1, generator)
    angle, shift, scale, shear = (p[0].double().numpy() for p in drawn)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    inverse = np.linalg.inv(scale * turn @ np.array([[1, shear], [0, 1]]))[::-1, ::-1]  # (row, column) order
    centre = np.array([15.5, 15.5])
    offset = centre - inverse @ (centre + shift[::-1])
    expected = affine_transform(image[0, 0].double().numpy(), inverse, offset, order=1, mode="grid-constant")
    got = apply_affine(image, drawn)[0, 0].double().numpy()
    assert np.abs(got - expected).max() <= 0.5 + 1e-2  # rounding to levels


def test_drawn_parameters_replay_whatever_the_batch(generator):
    images = torch.randint(0, 256, (10, 1, 8, 8), generator=generator, dtype=torch.uint8)
    drawn = draw_affine(10, generator)
    assert torch.equal(apply_affine(images, drawn), apply_affine(images, drawn, batch_size=3))


def test_draws_stay_within_their_bounds():
    drawn = draw_affine(2000, torch.Generator().manual_seed(0), degrees=10, pixels=3, scale=0.2, shear=0.1)
    for values, low, high in (
        (drawn.angle.rad2deg(), -10, 10),
        (drawn.shift, -3, 3),
        (drawn.scale, 0.8, 1.2),
        (drawn.shear, -0.1, 0.1),
    ):
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < values.max() <= high


def test_one_distortion_for_each_image(image):
    with pytest.raises(ValueError, match="1 images need 1 distortions, got 2"):
        apply_affine(image, parameters(n=2))

"""Signed distances against corners, discs and brute force."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from datamodules.scenes import shapes, world
from tests.datamodules.scenes import reference

SIDE = np.linspace(-1.5, 1.5, 151) + 1e-4  # no point lies on an outline by construction
X, Y = np.meshgrid(SIDE, SIDE)
EXACT_INSIDE = {"circle", "square", "triangle", "star", "ring", "moon"}  # the others are unions, exact outside


def lens(large: float, small: float, apart: float) -> float:
    """Area that two discs share."""
    first = (apart**2 + large**2 - small**2) / (2 * apart)
    return sum(
        radius**2 * np.arccos(cut / radius) - cut * np.sqrt(radius**2 - cut**2)
        for radius, cut in ((large, first), (small, apart - first))
    )


AREAS = {
    "circle": np.pi * 0.9**2, "square": 1.56**2, "triangle": 0.75 * np.sqrt(3), "star": 5 * 0.48 * np.sin(np.pi / 5),
    "heart": 1 + np.pi / 4, "ring": np.pi * (0.93**2 - 0.43**2), "cross": 4 * (0.66 * 0.9 - 0.33**2),
    "moon": np.pi * 0.93**2 - lens(0.93, 0.72, np.hypot(0.52, 0.08)),
}  # fmt: skip


def distance_of(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return shapes.SIGNED_DISTANCES[world.SHAPES.index(shape)](x, y)


def outline(shape: str) -> np.ndarray:
    """[P, 2], points 0.002 apart on the outline."""
    turns = np.linspace(0, 2 * np.pi, 3000)
    disc = np.stack([np.cos(turns), np.sin(turns)], 1)
    if shape == "circle":
        return 0.9 * disc
    if shape == "ring":
        return np.concatenate([0.93 * disc, 0.43 * disc])
    if shape == "moon":
        outer, inner = 0.93 * disc, 0.72 * disc + (0.52, -0.08)
        outer = outer[np.linalg.norm(outer - (0.52, -0.08), axis=1) >= 0.72]
        return np.concatenate([outer, inner[np.linalg.norm(inner, axis=1) <= 0.93]])
    corner = reference.corners(shape)
    share = np.linspace(0, 1, 800)[:, None, None]
    points = (corner + share * (np.roll(corner, -1, 0) - corner)).reshape(-1, 2)
    if shape == "heart":  # of its parts, what no other part covers
        middle = 0.5 / np.sqrt(2)
        discs = [0.5 * disc + (side * middle, 0.24 - middle) for side in (-1, 1)]
        points = np.concatenate([points, *discs])
        inward = points + 1e-6 * np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), -1).reshape(-1, 1, 2)
        points = points[~reference.inside("heart", inward[..., 0], inward[..., 1]).all(0)]
    return points


@pytest.mark.parametrize("shape", world.SHAPES)
def test_sign_value_and_area(shape: str) -> None:
    distance, within = distance_of(shape, X, Y), reference.inside(shape, X, Y)
    assert ((distance < 0) == within).all()
    true = cKDTree(outline(shape)).query(np.stack([X, Y], -1))[0]
    exact = np.ones_like(within) if shape in EXACT_INSIDE else ~within
    assert np.abs(np.abs(distance) - true)[exact].max() < 3e-3
    assert (np.abs(distance) - true).max() < 3e-3  # never farther than the outline is
    fine = np.arange(-1.3, 1.3, 0.0021)
    area = (distance_of(shape, *np.meshgrid(fine, fine)) < 0).sum() * 0.0021**2
    assert abs(area - AREAS[shape]) < 0.01
    assert 1.25 < area < 2.6  # no shape is half as large as another


@pytest.mark.parametrize("shape", world.SHAPES)
def test_an_object_stays_in_its_circle_and_is_upright_and_symmetric(shape: str) -> None:
    """Turned by up to 0.3, nothing reaches farther than a radius and the margin along x or y."""
    points = np.stack([X, Y], -1)[distance_of(shape, X, Y) < 0]
    turns = np.exp(1j * np.linspace(-world.TILT, world.TILT, 31))[:, None] * (points @ [1, 1j])
    reach = max(np.abs(turns.real).max(), np.abs(turns.imag).max())
    assert 0.85 < reach < 1 + world.MARGIN / world.RADII.max()
    mirrored = distance_of(shape, -X, Y)
    assert (np.abs(distance_of(shape, X, Y) - mirrored).max() < 1e-9) == (shape != "moon")


def test_patterns_have_two_parts_and_do_not_jump() -> None:
    for pattern, share in ((shapes.stripes, 0.5), (shapes.dots, np.pi * 0.2**2 / 0.66**2), (shapes.checks, 0.5)):
        fine = np.linspace(-3.3, 3.3, 2001)
        x, y = np.meshgrid(fine, fine)
        values = pattern(x, y)
        assert abs((values < 0).mean() - share) < 0.02
        assert np.abs(np.diff(values)).max() <= 1.001 * (fine[1] - fine[0])

"""Slant and stroke width of a written character, measured on its picture.

Ink is what differs from the background, the median of the picture's border, whether it is bright on dark or dark on bright.
A picture without ink has neither: NaN.
"""

import numpy as np
from scipy.ndimage import distance_transform_edt, zoom

FINER = 4       # the outline is found between pixels


def ink(image: np.ndarray) -> np.ndarray:
    """How much ink each pixel [H, W] of an image [C, H, W] in [-1, 1] holds: 0 is background, 1 the strongest."""
    gray = np.asarray(image, dtype=np.float64).mean(0)
    border = np.concatenate([gray[0], gray[-1], gray[1:-1, 0], gray[1:-1, -1]])
    apart = np.abs(gray - np.median(border))
    return apart / apart.max() if apart.max() > 0.1 else np.zeros_like(apart)


def slant(image: np.ndarray) -> float:
    """Degrees by which the character leans to the right, negative to the left: the shear that would set it upright.

    Its tangent is the covariance of x and (upward) y of the ink over the variance of y.
    """
    amount = ink(image)
    if not amount.any():
        return float("nan")
    y, x = np.mgrid[:amount.shape[0], :amount.shape[1]]
    x, y = x - np.average(x, weights=amount), np.average(y, weights=amount) - y
    variance = np.average(y * y, weights=amount)
    return float(np.degrees(np.arctan(np.average(x * y, weights=amount) / variance))) if variance > 0 else float("nan")


def stroke_width(image: np.ndarray) -> float:
    """Pixels across the stroke: four times the mean distance of ink to its edge, as in a long stroke that lies evenly in 0 to half."""
    outline = zoom(np.pad(ink(image), 1), FINER, order=1, grid_mode=True, mode="grid-constant") > 0.5
    if not outline.any():
        return float("nan")
    distance = distance_transform_edt(outline) - 0.5        # to the edge, not to the middle of the next pixel
    return float(4 * distance[outline].mean() / FINER)


def measure(images: np.ndarray) -> np.ndarray:
    """Slant and stroke width [N, 2] of images [N, C, H, W]."""
    return np.array([(slant(image), stroke_width(image)) for image in images]).reshape(len(images), 2)

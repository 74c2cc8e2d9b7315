"""The one contract between data and models: which keys a batch may carry, and what stands behind each."""

from typing import TypedDict

from torch import Tensor


class Batch(TypedDict, total=False):
    """A dict from datamodule to loss.

    B images, C channels, H and W pixels, T tokens of text, D width, K objects of a picture, A attributes of an object.
    """

    image: Tensor  # float32 [B, C, H, W] in [-1, 1]
    label: Tensor  # int64 [B] in 0..K-1
    text: list[str]  # B strings
    tokens: Tensor  # int64 [B, T]
    mask: Tensor  # bool [B, T], true where a token stands
    image_embedding: Tensor  # float32 [B, D]
    text_embedding: Tensor  # float32 [B, D]
    latent: Tensor  # float32 [B, C, H, W]
    control: Tensor  # float32 [B, C, H, W] in [-1, 1]
    prefix_length: Tensor  # int64 [B], tokens that are given; those after them are to be told
    answer: list[str]  # B strings
    kind: list[str]  # B strings, what a question asks for
    attributes: Tensor  # int64 [B, K, A], -1 where there is no object
    box: Tensor  # float32 [B, K, 4], x0 y0 x1 y1 in 0..1, y down
    centre: Tensor  # float32 [B, K, 2], x y in 0..1, y down

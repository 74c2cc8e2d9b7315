"""What a model must offer to be asked: the only way in which callbacks know a model.

Every method runs without gradient, leaves the global random state alone and takes images in [-1, 1]. A `generator` is
one `torch.Generator` (one stream for the batch), a list with one generator per image (image i is then the same in any
batch), or None (the global stream).
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, runtime_checkable

from torch import Generator, Tensor

from datamodules.batch import Batch

Generators: TypeAlias = Generator | list[Generator] | None


@runtime_checkable
class Samples(Protocol):
    """Draws images; `batch` carries the conditions, and of `batch["image"]` only the shape counts."""

    def sample(
        self, batch: Batch, *, generator: Generators = None, num_steps: int | None = None, start: float = 1.0
    ) -> Tensor:
        """Images [B, C, H, W] in [-1, 1]; the chain begins at clock value `start` and takes `num_steps` steps."""
        ...


@runtime_checkable
class DeclaresSampling(Protocol):
    """Says how it samples; FD, KID and grids write it beside their values."""

    def sampling_settings(self) -> dict[str, Any]:
        """For instance {"sampler": "DDIM(eta=0)", "num_steps": 50, "guidance": 2.0, "conditional": True}: plain
        values."""
        ...


@runtime_checkable
class Classifies(Protocol):
    """Names the class of an image: judge of class accuracy, extractor of a Fréchet distance."""

    def classify(self, images: Tensor) -> Tensor:
        """Logits [B, K] of images [B, C, H, W] in [-1, 1]."""
        ...

    def features(self, images: Tensor) -> Tensor:
        """Features [B, D] of images [B, C, H, W] in [-1, 1]: the input of the last layer."""
        ...


@runtime_checkable
class RecognisesUnseen(Protocol):
    """Names classes of which it has seen no image."""

    seen: Tensor  # bool [K], the classes that had training images
    threshold: float | None  # of novelty, above which an image is taken for one of an unseen class; None: not the model's own

    def recognise(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores [B, K], comparable among the seen and among the unseen classes, and novelty [B], for images [B, C, H, W]
        in [-1, 1]."""
        ...


@runtime_checkable
class Reads(Protocol):
    """Says which objects an image shows: judge of whether a picture shows what its caption says."""

    def read(self, images: Tensor) -> list[list[dict[str, Any]]]:
        """The objects of each image [B, C, H, W] in [-1, 1]: a word for each attribute ("colour": "red"), and "x" and "y" of
        the middle in 0..1, y down."""
        ...

    def features(self, images: Tensor) -> Tensor:
        """Features [B, D] of images [B, C, H, W] in [-1, 1]: the input of the last layer."""
        ...


@runtime_checkable
class Embeds(Protocol):
    """Maps images and texts to unit vectors of one space, and says what their cosine means."""

    def embed_images(self, images: Tensor) -> Tensor:
        """Unit vectors [B, D] of images [B, C, H, W] in [-1, 1]."""
        ...

    def embed_tokens(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Unit vectors [B, D] of texts: tokens int64 [B, T] and mask bool [B, T], true where a token stands."""
        ...

    def probabilities(self, image_embedding: Tensor, text_embedding: Tensor) -> Tensor:
        """[B, K] of images [B, D] and texts [K, D]: over the K texts (softmax), or of each pair for itself (sigmoid)."""
        ...

    def similarity_settings(self) -> dict[str, Any]:
        """{"loss": "softmax" or "sigmoid", "scale": ..., "bias": ... or None}: plain values."""
        ...


@runtime_checkable
class BoundsLikelihood(Protocol):
    """Bounds the likelihood of images."""

    def bits_by_term(self, batch: Batch, *, num_terms: int, generator: Generators = None) -> dict[str, Tensor]:
        """The parts of an upper bound on the negative log-likelihood, in bits per dimension [B] each; their sum is the bound.

        What takes many terms (a diffusion chain) is estimated from `num_terms` of them per image.
        """
        ...


@runtime_checkable
class BoundsNats(Protocol):
    """Bounds the likelihood of images from below, the tighter the more it draws."""

    def log_likelihood_bound(self, batch: Batch, *, num_samples: int, generator: Generators = None) -> Tensor:
        """A lower bound on the log-likelihood of each image, in nats [B], from `num_samples` importance samples of it."""
        ...

    def likelihood_settings(self) -> dict[str, Any]:
        """What the nats are of, for instance {"likelihood": "Bernoulli", "levels": 2, "given_label": True}: plain values."""
        ...


@runtime_checkable
class Encodes(Protocol):
    """Maps images to a distribution over latents."""

    def encode(self, images: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log variance [B, D] for images [B, C, H, W] in [-1, 1]; a conditional model is told their labels [B]."""
        ...


@runtime_checkable
class Reconstructs(Protocol):
    """Maps images to what is left of them."""

    def reconstruct(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """Images [B, C, H, W] in [-1, 1] for images of the same shape; a conditional model is told their labels [B]."""
        ...


@runtime_checkable
class Denoises(Protocol):
    """Takes noise away along a clock t: 0 is clean, 1 is noise."""

    def loss_at(self, batch: Batch, t: Tensor, *, generator: Generators = None) -> Tensor:
        """Unweighted training loss [B] at the clock values t [B]."""
        ...

    def noising(self, images: Tensor, t: Tensor, *, generator: Generators = None) -> Tensor:
        """x_t [B, C, H, W] of the clean images at the clock values t [B]."""
        ...

    def denoising_path(self, batch: Batch, *, generator: Generators = None, num_frames: int) -> Tensor:
        """Predictions of the clean image [F, B, C, H, W], F = num_frames, evenly spaced along the chain of `sample`."""
        ...


def require(module: object, protocol: type, asker: object) -> None:
    """Raises a ValueError that names the missing method, unless `module` offers `protocol`."""
    if isinstance(module, protocol):
        return
    missing = [name for name in vars(protocol) if not name.startswith("_") and not hasattr(module, name)]
    methods, name = " and ".join(f"{name}()" for name in missing), type(asker).__name__
    raise ValueError(
        f"{name} asks {type(module).__name__} for {methods}, which it has not: take {name} out of trainer.callbacks "
        f"or add the method ({protocol.__name__} in callbacks/protocols.py)"
    )


def sampling_settings(module: object) -> dict[str, Any]:
    """How `module` samples, as it declares it itself; empty if it does not."""
    return module.sampling_settings() if isinstance(module, DeclaresSampling) else {}

"""Accuracy on the line (Miller et al. 2021, 2107.04649) and effective robustness: how far above it a model stands (Taori et al. 2020)."""

import numpy as np

CLIPPED = 0.0025        # accuracies of none and all have no logit
RESAMPLES = 2000


def logit(share: float | np.ndarray) -> np.ndarray:
    """ln(p / (1 - p)) of accuracies in 0..1, kept `CLIPPED` away from 0 and 1."""
    kept = np.clip(share, CLIPPED, 1 - CLIPPED)
    return np.log(kept / (1 - kept))


def fitted(source: np.ndarray, shifted: np.ndarray) -> tuple[float, float]:
    """Slope and offset of the line through the logits of the accuracies [A] of classifiers, by least squares."""
    if len(source) < 2 or np.ptp(logit(source)) < 1e-6:
        return 1.0, float(np.mean(logit(shifted) - logit(source)))
    slope, offset = np.polyfit(logit(source), logit(shifted), 1)
    return float(slope), float(offset)


def effective_robustness(source: np.ndarray, shifted: np.ndarray, own_source: float, own_shifted: float) -> float:
    """The model's shifted accuracy less that which the classifiers' line gives its source accuracy."""
    slope, offset = fitted(source, shifted)
    return own_shifted - float(1 / (1 + np.exp(-(offset + slope * logit(own_source)))))


def residual_interval(source: np.ndarray, shifted: np.ndarray, hits_source: np.ndarray, hits_shifted: np.ndarray,
                      seed: int = 0) -> list[float]:
    """Effective robustness with its 95 % interval: the classifiers [A] and the model's hits [N] on both kinds of picture are drawn
    again with replacement, each for itself."""
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(RESAMPLES):
        some = rng.integers(len(source), size=len(source))
        means = [rng.choice(hits, len(hits)).mean() for hits in (hits_source, hits_shifted)]
        drawn.append(effective_robustness(source[some], shifted[some], *means))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return [effective_robustness(source, shifted, hits_source.mean(), hits_shifted.mean()), float(low), float(high)]


def at_equal_source(source: np.ndarray, shifted: np.ndarray, accuracy: float, num: int = 3) -> float:
    """The shifted accuracy of classifiers where their source accuracy is the given one: from the line through the logits of the
    `num` nearest on either side of it."""
    apart = logit(source) - logit(accuracy)
    below, above = np.flatnonzero(apart <= 0), np.flatnonzero(apart > 0)
    near = np.concatenate([below[np.argsort(-apart[below])][:num], above[np.argsort(apart[above])][:num]])
    slope, offset = fitted(source[near], shifted[near])
    return float(1 / (1 + np.exp(-(offset + slope * logit(accuracy)))))

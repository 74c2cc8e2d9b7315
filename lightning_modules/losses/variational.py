"""The variational bound on the likelihood and its parts (Kingma and Welling 2013, 1312.6114), in nats."""

import math

import torch
from torch import Tensor


def kl_to_standard_normal(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, I)) [B] of mu and logvar [B, D], in closed form (appendix B of the paper)."""
    return (mu.square() + logvar.exp() - 1 - logvar).sum(1) / 2


def log_normal(x: Tensor, mu: Tensor | float = 0.0, logvar: Tensor | float = 0.0) -> Tensor:
    """log N(x; mu, exp(logvar)) [B] of x [B, D], summed over D."""
    logvar = torch.as_tensor(logvar).to(x)
    return -((x - mu).square() / logvar.exp() + logvar + math.log(2 * math.pi)).sum(1) / 2


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """log 1/K sum_k w_k [B] of log_weights [K, B], log w_k = log p(x, z_k) - log q(z_k | x) (Burda et al. 2015, 1509.00519, eq. 8).

    Its mean is a lower bound on log p(x) that rises with K; K = 1 is the evidence lower bound.
    """
    return log_weights.logsumexp(0) - math.log(len(log_weights))


def linear_warm_up(step: int, num_steps: int) -> float:
    """0 at step 0, 1 from step `num_steps` on; 1 throughout where there are no steps (Sønderby et al. 2016, 1602.02282)."""
    return min(1.0, step / num_steps) if num_steps else 1.0

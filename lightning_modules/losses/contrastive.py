"""What makes matching images and texts meet: the softmax loss of CLIP and the sigmoid loss of SigLIP.

`image` and `text` [N, D] are unit vectors, row i of one belonging to row i of the other. Where a caption occurs twice in a batch,
`targets` says so: bool [N, N], true where the image of a row and the text of a column match, or the `text_ids` [N] of the texts;
a pair of equal ids matches. Without them only the diagonal does. Both losses are in float32 at least, whatever the run's precision.
"""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def clip_loss(image: Tensor, text: Tensor, scale: Tensor | float, targets: Tensor | None = None) -> Tensor:
    """Cross-entropy along both axes of scale * image @ text.T, averaged (Radford et al. 2021, 2103.00020, figure 3); ln N if all are alike.

    With `targets` each image is to spread its probability evenly over all its texts, and each text over its images.
    """
    with torch.autocast(image.device.type, enabled=False):
        logits = scale * precise(image) @ precise(text).T                                     # N N
        if targets is None:
            of_image = of_text = torch.arange(len(logits), device=logits.device)              # N
        else:
            matches = positives(targets).to(logits)                                           # N N
            of_image, of_text = matches / matches.sum(1, keepdim=True), matches.T / matches.sum(0).unsqueeze(1)
        return (F.cross_entropy(logits, of_image) + F.cross_entropy(logits.T, of_text)) / 2


def siglip_loss(image: Tensor, text: Tensor, scale: Tensor | float, bias: Tensor | float, targets: Tensor | None = None,
                chunk: int | None = None) -> Tensor:
    """-1/N sum_ij log sigmoid(z_ij (scale x_i.y_j + bias)), z = 1 where i and j match, else -1 (Zhai et al. 2023, 2303.15343).

    The sign of the bias is that of the paper's code, not of its equation 1. `chunk` images at a time the N x N matrix never stands
    in memory and the gradient is the analytic one, made on the way: the same to rounding, and once differentiable.
    """
    if chunk is not None and chunk < 1:
        raise ValueError(f"siglip_loss: chunk {chunk} is below 1; give the number of images at a time, for instance 256, or None")
    with torch.autocast(image.device.type, enabled=False):
        x, y = precise(image), precise(text)
        if chunk is not None:
            scale, bias = (torch.as_tensor(value, dtype=x.dtype, device=x.device) for value in (scale, bias))
            wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, y, scale, bias))
            return InChunks.apply(x, y, scale, bias, targets, chunk, wanted)
        logits = scale * x @ y.T + bias                                                       # N N
        signed = logits.where(positives(targets, like=logits), -logits)                       # N N
        return -F.logsigmoid(signed).sum() / len(x)


class InChunks(torch.autograd.Function):
    """The sum of `siglip_loss` over some rows of the matrix at a time, with its gradient: one pass, and the memory of image and text twice.

    The gradient is of a scalar, so that all but its scaling can be done while a chunk of the matrix is at hand: the three matrix
    products of a step are all there are, and nothing is computed again.
    """

    @staticmethod
    def forward(ctx, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, targets: Tensor | None, chunk: int, wanted: bool) -> Tensor:
        num = len(image)
        loss = image.new_zeros(())
        grad_image, grad_text, grad_bias = torch.empty_like(image), torch.zeros_like(text), torch.zeros_like(loss)
        for first in range(0, num, chunk):
            rows = slice(first, first + chunk)
            scaled = image[rows] * scale                                                      # C D
            cells = torch.addmm(bias, scaled, text.T)                                         # C N  logits, then in place
            negate_matches(cells, targets, rows)                                              #      -z logits
            cells.neg_()
            loss -= F.logsigmoid(cells).sum()
            if wanted:
                cells.neg_().sigmoid_()                                                       #      sigmoid(-z logits)
                negate_matches(cells, targets, rows)                                          #      N d loss / d logits
                torch.mm(cells, text, out=grad_image[rows])
                grad_text.addmm_(cells.T, scaled)
                grad_bias += cells.sum()
        if wanted:
            grad_scale = (grad_image * image).sum() / num
            ctx.save_for_backward(grad_image.mul_(scale / num), grad_text.div_(num), grad_scale, grad_bias / num)
        return loss / num

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_loss: Tensor):
        image, text, scale, bias = (gradient * grad_loss if asked else None
                                    for gradient, asked in zip(ctx.saved_tensors, ctx.needs_input_grad, strict=False))
        return image, text, scale, bias, None, None, None


class Gathered(torch.autograd.Function):
    """The rows of all processes, in the order of their ranks; backward, a row's gradient is the sum of what all processes ask of it."""

    @staticmethod
    def forward(ctx, x: Tensor, group: "dist.ProcessGroup | None") -> Tensor:
        ctx.group = group
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size(group))]
        dist.all_gather(parts, x.contiguous(), group=group)
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        gradient = gradient.clone(memory_format=torch.contiguous_format)                      # autograd may hold it elsewhere
        dist.all_reduce(gradient, group=ctx.group)
        return gradient.chunk(dist.get_world_size(ctx.group))[dist.get_rank(ctx.group)], None


def gathered(x: Tensor, group: "dist.ProcessGroup | None" = None) -> Tensor:
    """[N, ...] of all processes from the equally many [n, ...] of each, with gradient; `x` itself in a single process.

    Each process then computes the loss of all N pairs. Backward sums the W equal losses' gradients, and DistributedDataParallel takes
    the mean over W processes: what reaches the weights is the gradient of the one loss, as in a single process with all N rows.
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size(group) == 1:
        return x
    return Gathered.apply(x, group)


def text_ids(tokens: Tensor) -> Tensor:
    """The `targets` of tokens [N, T]: int64 [N], equal for equal rows. Across processes, of the gathered tokens."""
    return torch.unique(tokens, dim=0, return_inverse=True)[1]


def positives(targets: Tensor | None, like: Tensor | None = None, rows: slice = slice(None)) -> Tensor:
    """`targets` as bool [N, N], or some of its rows; for None the diagonal of a matrix `like` this."""
    if targets is None:
        assert like is not None
        return torch.eye(len(like), dtype=torch.bool, device=like.device)
    return targets[rows] if targets.ndim == 2 else targets[rows].unsqueeze(1) == targets


def negate_matches(cells: Tensor, targets: Tensor | None, rows: slice) -> None:
    """Changes, in place, the sign of the matching pairs in these rows [C, N] of the matrix."""
    if targets is None:
        cells.diagonal(rows.start).neg_()
    else:
        cells.mul_(1 - 2 * positives(targets, rows=rows).to(cells))


def precise(x: Tensor) -> Tensor:
    """float32 for anything coarser."""
    return x.to(torch.promote_types(x.dtype, torch.float32))

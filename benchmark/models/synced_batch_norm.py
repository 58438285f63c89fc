"""Batch norm over the whole batch, where each process holds a part of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from benchmark.distributed import summed
from benchmark.errors import InputError


class SyncedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """nn.BatchNorm1d, 2d or 3d over the parts of all processes: [B, C, ...] on each, of the same shape.

    It computes in float32 also under autocast; the result has the input's type. In evaluation mode nothing is
    exchanged. PyTorch's SyncBatchNorm runs on GPUs only.
    """

    processes: int

    def _check_input_dim(self, x: torch.Tensor) -> None:
        """Accept any number of dimensions: `sync_batch_norm` converts modules that were checked before."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        y, mean, variance, count = _Normalise.apply(x, self.weight, self.bias, self.eps, self.processes)
        if self.track_running_stats:
            batches, running_mean, running_var = self.num_batches_tracked, self.running_mean, self.running_var
            assert batches is not None and running_mean is not None and running_var is not None  # they are tracked
            batches.add_(1)
            share: torch.Tensor | float = 1 / batches if self.momentum is None else self.momentum
            running_mean.lerp_(mean, share)
            running_var.lerp_(variance * (count / (count - 1)), share)
        return y


def sync_batch_norm(module: nn.Module, processes: int) -> None:
    """Make every batch norm in a module a `SyncedBatchNorm` over so many processes.

    It changes the modules in place: parameters, buffers, names and a backbone's list of frozen modules stay valid.
    Raises InputError for a batch norm that is not PyTorch's own.
    """
    for part in module.modules():
        if type(part) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            part.__class__ = SyncedBatchNorm
            assert isinstance(part, SyncedBatchNorm)  # as of the line above
            part.processes = processes
        elif isinstance(part, nn.modules.batchnorm._BatchNorm) and not isinstance(part, SyncedBatchNorm):
            name = type(part).__name__
            raise InputError(f"{name}: a batch norm of one's own cannot be trained on several processes; use --gpus 1")


class _Normalise(torch.autograd.Function):
    """(x, weight [C], bias [C], eps, processes) -> y, mean [C], biased variance [C], number of values of each."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float, processes: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
        over = [d for d in range(x.ndim) if d != 1]
        count = x.numel() // x.shape[1] * processes
        mean = summed(x.float().sum(over)) / count
        centred = x.float() - _column(mean, x)
        # Two passes: the mean of squares less the square of the mean would lose the digits of a small variance.
        variance = summed(centred.square().sum(over)) / count
        scale = torch.rsqrt(variance + eps)
        y = centred.mul_(_column(scale if weight is None else scale * weight, x))
        if bias is not None:
            y.add_(_column(bias, x))
        ctx.save_for_backward(x, weight, mean, scale)
        ctx.over, ctx.count, ctx.biased = over, count, bias is not None
        ctx.mark_non_differentiable(mean, variance)
        return y.to(x.dtype), mean, variance, count

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor, *unused: Any) -> tuple[torch.Tensor | None, ...]:
        x, weight, mean, scale = ctx.saved_tensors
        normal = (x.float() - _column(mean, x)).mul_(_column(scale, x))
        gradient = gradient.float()
        own = torch.stack([gradient.sum(ctx.over), (gradient * normal).sum(ctx.over)])
        # The loss of every process depends on the shared statistics.
        shift, slope = summed(own) / ctx.count
        inner = gradient - _column(shift, x) - normal.mul_(_column(slope, x))
        inner.mul_(_column(scale if weight is None else scale * weight, x))
        return inner.to(x.dtype), None if weight is None else own[1], own[0] if ctx.biased else None, None, None


def _column(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """[C] -> a shape that broadcasts over x [B, C, ...]."""
    return values.view(1, -1, *[1] * (x.ndim - 2))

"""ERM: empirical risk minimisation, the baseline of every table."""

from __future__ import annotations

from torch import nn

from benchmark.method import METHODS, LossMethod, MethodConfig, Task


@METHODS.register("erm")
class ERM(LossMethod):
    """Binary cross-entropy with logits, mean over B and C; uniform sampling (Guo and Wang, CVPR 2021, table 1)."""

    title = "ERM"

    def make_loss(self, task: Task, config: MethodConfig) -> nn.Module:
        return nn.BCEWithLogitsLoss()

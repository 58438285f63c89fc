"""The demo's small convolutional network."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from benchmark.models.backbones import BACKBONES, Architecture, Backbone

STEM_WIDTH = 16
STAGE_WIDTHS = (32, 64, 128)


@BACKBONES.register("small_cnn")
class SmallCNN(Architecture):
    """Seven 3x3 convolutions for the demo's 64-pixel images: 16 to 128 channels, a map of 1/16 of the side.

    Pooling takes the maximum: the objects are small and an average would lose them.
    """

    @classmethod
    def build(cls, image_size: int, quick_gelu: bool) -> nn.Module:
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        stages["stem"] = nn.Sequential(*_convolution(3, STEM_WIDTH), nn.MaxPool2d(2))
        inputs = STEM_WIDTH
        for i, outputs in enumerate(STAGE_WIDTHS, 1):
            convolutions = *_convolution(inputs, outputs), *_convolution(outputs, outputs)
            stages[f"stage{i}"] = nn.Sequential(*convolutions, nn.MaxPool2d(2))
            inputs = outputs
        return nn.Sequential(stages)

    @classmethod
    def wrap(cls, network: nn.Module) -> Backbone:
        return Backbone(OrderedDict(network.named_children()), STAGE_WIDTHS[-1])


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

"""The sizes at which images are decoded and kept, in pixels."""

from __future__ import annotations

import math

from benchmark.spec import Augment, TestTime


def training_size(image_size: int, augment: Augment) -> int:
    """Side of the kept training images: large enough that the smallest crop is not enlarged.

    image_size: of the network, in pixels.
    """
    return math.ceil(image_size / augment.crop_min_side)


def scoring_size(image_size: int, test_time: TestTime) -> int:
    """Side of the kept validation and test images: larger than the network's by the margin of five crops."""
    return image_size + test_time.margin if test_time.views == "five-crop" else image_size

"""The batches of a run: the same for the same seed and step, on any number of processes."""

from __future__ import annotations

import math

import numpy as np
import torch

from benchmark.data.augment import Augmenter
from benchmark.data.pixels import Images
from benchmark.data.samplers import generator, make_sampler
from benchmark.method import Batch, Method
from benchmark.training.inference import map_images
from benchmark.training.setup import Runtime, TrainingConfig, TrainingData

# Images that are copied to the GPU at a time.
_COPIED = 256


class Batches:
    """Draws, augments and normalises the batches of every step.

    inputs: uint8 images [N, S, S, 3], or features [N, D]; features are None until `compute_features`. A batch is made
    of rows of them.
    """

    def __init__(self, data: TrainingData, config: TrainingConfig, of_images: bool, runtime: Runtime):
        recipe = config.recipe
        self._data = data
        self._seed = config.seed
        self._size = recipe.batch_size
        self._of_images = of_images
        self._runtime = runtime
        self.inputs: torch.Tensor | Images | None = _on_device(data.train.images, runtime.device) if of_images else None
        self.targets = torch.from_numpy(data.train.targets.astype(np.float32)).to(runtime.device)
        self._samplers = [make_sampler(name, data.train.targets, config.seed) for name in config.samplers]
        draws = len(data.train.targets)
        if recipe.epoch_length == "sampler":
            draws = max(sampler.epoch_length for sampler in self._samplers)
        # Whole batches only: an epoch draws a few images more, so that batch norm gets no smaller last batch.
        self.steps_per_epoch = math.ceil(draws / self._size)
        self._augment = Augmenter(recipe.augment, recipe.image_size)
        self._drawn: list[torch.Tensor] = []
        self._drawn_epoch = -1

    @property
    def images_per_step(self) -> int:
        """Images of one step, over all samplers and processes."""
        return self._size * len(self._samplers)

    def compute_features(self, method: Method) -> None:
        """Compute the features of all training images, once, where the method trains on features."""
        if self.inputs is not None:
            return
        images, device = self._data.train.images, self._runtime.device
        with self._runtime.reporter.task("features", len(images)) as task:
            self.inputs = map_images(
                lambda x: method.features(self._data.normalizer(x)), method, images, device, task.update
            )

    def of_step(self, step: int) -> list[Batch]:
        """This process's part of each sampler's batch."""
        return [self._batch(number, step) for number in range(len(self._samplers))]

    def _batch(self, sampler: int, step: int) -> Batch:
        epoch, position = divmod(step, self.steps_per_epoch)
        chosen = self._indices(sampler, epoch)[position * self._size : (position + 1) * self._size]
        part = self._runtime.peers.part(self._size)
        device = self._runtime.device
        assert self.inputs is not None  # a stage begins with `compute_features`
        if isinstance(self.inputs, torch.Tensor):
            inputs = self.inputs[chosen.to(self.inputs.device)]
        else:
            inputs = torch.from_numpy(self.inputs[chosen.numpy()])
        inputs = inputs.to(device, non_blocking=True)
        if self._of_images:
            # Every process augments the whole batch and trains on a part of it: an image's random parameters depend on
            # its index in the batch. That costs little beside the network's passes over the part.
            augmented = self._augment(inputs, generator("augment", self._seed, sampler, step))
            inputs = self._data.normalizer(augmented[part])
        else:
            inputs = inputs[part]
        return Batch(inputs, self.targets[chosen[part].to(device)])

    def _indices(self, sampler: int, epoch: int) -> torch.Tensor:
        """Indices of the images that a sampler draws in an epoch, int64 [steps_per_epoch * batch size]."""
        if self._drawn_epoch != epoch:
            self._drawn = [s.draw(epoch, self.steps_per_epoch * self._size) for s in self._samplers]
            self._drawn_epoch = epoch
        return self._drawn[sampler]


def _on_device(images: Images, device: torch.device) -> torch.Tensor | Images:
    """The images on the GPU where they take less than half of its free memory, otherwise as they are."""
    if device.type != "cuda" or math.prod(images.shape) >= torch.cuda.mem_get_info(device)[0] / 2:
        return images
    resident = torch.empty(images.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(images), _COPIED):
        resident[start : start + _COPIED] = torch.from_numpy(images[start : start + _COPIED])
    return resident

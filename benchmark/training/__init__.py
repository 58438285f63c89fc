"""Training: the loop, its stages, checkpoints, optimiser, inference."""

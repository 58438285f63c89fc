"""What is trained on: lists, images and their cache, augmentation, samplers, the registered datasets."""

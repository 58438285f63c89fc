"""The networks that backbones are made of, found by module: each file registers its architectures."""

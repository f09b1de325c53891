"""Baselines as nerfstudio methods: NeRF and mip-NeRF, whole and as published, under our data, trainer, checkpoints and
measures.

What they compute lies in ``volume/`` (``nerf``, ``mipnerf``, and ``coarse_to_fine``, which they share) and ``fields/`` (their
perceptron and encodings). They are plain torch and slow, and are there to be measured against.
"""

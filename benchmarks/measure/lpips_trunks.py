"""LPIPS without a download: torchvision's cache, made of the convolutions of AlexNet and VGG16 that lie in a folder.

nerfbaselines asks torchvision for both networks, which it downloads into torch's cache, 760 MB, where that does not hold them.
LPIPS uses their convolutions alone; the layers behind them are zeros in the cache made here, which is therefore one of its own
and not the user's.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

FILES = {"alexnet": "alexnet.npz", "vgg16": "vgg16.npz"}
"""In the folder, with arrays named as torchvision names its parameters: ``features.0.weight`` [out, in, h, w] and so on."""


def read(folder: Path) -> dict[str, dict[str, NDArray[np.float32]]]:
    """The convolutions of both networks.

    Raises:
        SystemExit: a file is not there.
    """
    found = {}
    for network, name in FILES.items():
        if not (folder / name).is_file():
            sys.exit(
                f"{folder / name}: no such file; it is to hold {network}'s convolutions, features.N.weight and features.N.bias."
            )
        with np.load(folder / name) as arrays:
            found[network] = {key: arrays[key].astype(np.float32) for key in arrays.files}
    return found


def write(trunks: Mapping[str, Mapping[str, NDArray[np.float32]]], home: Path) -> None:
    """Makes a cache to which ``TORCH_HOME`` may point.

    Args:
        trunks: of each network, its convolutions.
        home: the folder of the cache.

    Raises:
        SystemExit: an array is missing or of another shape.
    """
    from torchvision import models

    urls = {"alexnet": models.AlexNet_Weights.IMAGENET1K_V1.url, "vgg16": models.VGG16_Weights.IMAGENET1K_V1.url}
    for network, arrays in trunks.items():
        with torch.device("meta"):
            shapes = {name: x.shape for name, x in getattr(models, network)(weights=None).state_dict().items()}
        state = {}
        for name, shape in shapes.items():
            if not name.startswith("features."):
                state[name] = torch.zeros(()).expand(shape)  # one number on the disk
            elif name not in arrays or arrays[name].shape != shape:
                sys.exit(f"{FILES[network]}: there is no array {name} of shape {list(shape)}; make the file anew.")
            else:
                state[name] = torch.from_numpy(arrays[name])
        file = home / "hub" / "checkpoints" / urls[network].rsplit("/", 1)[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, file)


def at_random(seed: int = 0) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Convolutions of the right shapes and of no meaning: for tests of what surrounds the number."""
    from torchvision import models

    rng = np.random.default_rng(seed)
    found = {}
    for network in FILES:
        with torch.device("meta"):
            shapes = {name: x.shape for name, x in getattr(models, network)(weights=None).features.state_dict().items()}
        found[network] = {
            f"features.{name}": (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) or 1)).astype(np.float32)
            for name, shape in shapes.items()
        }
    return found

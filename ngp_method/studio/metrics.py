"""PSNR, SSIM and, where its weights can be had without a download, LPIPS (AlexNet) of a rendered picture."""

from __future__ import annotations

import math
import os
import statistics
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

import numpy as np
import torch
import torch.nn.functional as F
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

LPIPS_VARIABLE = "LPIPS_WEIGHTS"
"""Environment variable with the path of the weights (.npz), used where no path is given."""

LPIPS_MIN_SIZE = 31
"""Pixels a side below which AlexNet's second pooling has nothing to pool."""

SSIM_MIN_SIZE = 11
"""Pixels a side of SSIM's Gaussian window."""

# AlexNet's convolutions in torchvision's numbering: (index in `features`, stride, padding, pooled before).
_CONVOLUTIONS = ((0, 4, 2, False), (3, 1, 2, True), (6, 1, 1, True), (8, 1, 1, False), (10, 1, 1, False))
# Mean and deviation of ImageNet for pictures in [-1, 1], as LPIPS 0.1 has them.
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_HUB_FILE = "alexnet-owt-7be5be79.pth"


MEASURES = ("psnr", "ssim", "lpips")
"""Of a picture, where it is large enough for them and a mask leaves something of it."""


def means_of(rows: Sequence[Mapping[str, float]], spread: bool = False) -> dict[str, float]:
    """Mean of each measure over the pictures that have it, and its standard deviation where ``spread``."""
    found: dict[str, float] = {}
    for name in MEASURES:
        values = [float(row[name]) for row in rows if name in row]
        if values:
            found[name] = statistics.fmean(values)
            if spread:
                found[f"{name}_std"] = statistics.stdev(values) if len(values) > 1 else 0.0
    return found


def by_scale(rows: Sequence[Mapping[str, float]], scales: Sequence[int]) -> dict[str, float]:
    """Means of the pictures of each scale: ``psnr_1``, ``psnr_2`` and so on.

    Args:
        rows: measures of N pictures.
        scales: of the pictures, [N].
    """
    found: dict[str, float] = {}
    for scale in sorted(set(scales)):
        some = [row for row, its in zip(rows, scales, strict=True) if its == scale]
        found |= {f"{name}_{scale}": value for name, value in means_of(some).items()}
    return found


class ImageMetrics:
    """Measures pictures; a plain object, so that nothing of it enters a model's ``state_dict``.

    Args:
        lpips_weights: an .npz with ``features.N.weight``, ``features.N.bias`` and ``linK.model.1.weight``; if None,
            the file that $LPIPS_WEIGHTS names, else torch hub's cache. Where none is there LPIPS is left out, and one
            line says so at the first picture.
    """

    def __init__(self, lpips_weights: Optional[Path] = None) -> None:
        self.lpips_weights = lpips_weights
        self._weights: Optional[dict[str, Tensor]] = None
        self._looked = False

    def __call__(self, predicted: Tensor, truth: Tensor, keep: Optional[Tensor] = None) -> dict[str, float]:
        """psnr (dB), ssim and, if it can be had, lpips of one picture.

        Args:
            predicted: [H, W, 3] in [0, 1], any float type; what lies outside is clipped.
            truth: the same.
            keep: pixels that count, [H, W, 1] bool, as a mask leaves them: psnr is that of these alone; for ssim and
                lpips, which look at neighbourhoods, the others are set equal. Default: all. Where none is left, nothing
                is measured.
        """
        if predicted.shape != truth.shape or predicted.ndim != 3 or predicted.shape[-1] != 3:
            raise ValueError(f"Pictures must both be [H, W, 3], not {[*predicted.shape]} and {[*truth.shape]}.")
        with torch.no_grad():
            first, second = (x.detach().float().clamp(0.0, 1.0).movedim(-1, 0)[None] for x in (predicted, truth))
            if keep is not None and not bool(keep.all()):
                kept = keep.reshape(first.shape[-2:]).to(first.device)
                if not bool(kept.any()):
                    return {}
                first = torch.where(kept, first, second)
                values = {"psnr": psnr(first[..., kept], second[..., kept])}
            else:
                values = {"psnr": psnr(first, second)}
            if min(first.shape[-2:]) >= SSIM_MIN_SIZE:
                values["ssim"] = ssim(first, second)
            weights = self._find_weights()
            if weights is not None and min(first.shape[-2:]) >= LPIPS_MIN_SIZE:
                values["lpips"] = lpips(first, second, weights)
        return values

    def _find_weights(self) -> Optional[dict[str, Tensor]]:
        if not self._looked:
            self._looked = True
            try:
                self._weights = load_lpips_weights(self.lpips_weights)
            except (OSError, ValueError, KeyError, zipfile.BadZipFile) as reason:
                CONSOLE.print(f"LPIPS is left out: {reason}", soft_wrap=True)
        return self._weights


def psnr(first: Tensor, second: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures or pixels of equal shape in [0, 1]; infinite if they are the same."""
    mse = float(F.mse_loss(first, second))
    return math.inf if mse == 0.0 else -10.0 * math.log10(mse)


def ssim(first: Tensor, second: Tensor) -> float:
    """Structural similarity, Gaussian window of 11 pixels, of pictures [1, 3, H, W] in [0, 1]."""
    # torchmetrics.functional, without .image, warns of a deprecation that is not ours; and it is slow to import.
    from torchmetrics.functional.image import structural_similarity_index_measure

    value = structural_similarity_index_measure(first, second, data_range=1.0)
    assert isinstance(value, Tensor)
    return float(value)


def lpips(first: Tensor, second: Tensor, weights: dict[str, Tensor]) -> float:
    """Perceptual distance of pictures [1, 3, H, W] in [0, 1], at least 31 pixels a side.

    LPIPS 0.1 with AlexNet (Zhang et al. 2018, arXiv 1801.03924): the activations after each of the five convolutions
    are normalised per pixel, their squared differences weighted per channel, averaged over the picture and added up.
    """
    device = first.device
    weights = {name: value.to(device) for name, value in weights.items()}
    shift, scale = (torch.tensor(v, device=device)[:, None, None] for v in (_SHIFT, _SCALE))
    x = (2.0 * torch.cat([first, second]) - 1.0 - shift) / scale
    total = torch.zeros((), device=device)
    for layer, (index, stride, padding, pooled) in enumerate(_CONVOLUTIONS):
        if pooled:
            x = F.max_pool2d(x, 3, 2)
        x = F.relu(F.conv2d(x, weights[f"features.{index}.weight"], weights[f"features.{index}.bias"], stride, padding))
        unit = x / torch.sqrt(1e-8 + (x * x).sum(1, keepdim=True))
        difference = (unit[0] - unit[1]) ** 2
        total = total + (weights[f"lin{layer}.model.1.weight"].reshape(-1, 1, 1) * difference).sum(0).mean()
    return float(total)


def load_lpips_weights(path: Optional[Path] = None) -> dict[str, Tensor]:
    """LPIPS' weights from ``path``, else from the file $LPIPS_WEIGHTS names, else from torch hub's cache; no download.

    Raises:
        OSError, ValueError, KeyError, BadZipFile: where they are not to be had; the text says why and what to do.
    """
    if path is None and os.environ.get(LPIPS_VARIABLE):
        path = Path(os.environ[LPIPS_VARIABLE])
    if path is None:
        return _cached_weights()
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file; ${LPIPS_VARIABLE} must name an .npz with its weights.")
    with np.load(path) as arrays:
        missing = [name for name in _names() if name not in arrays]
        if missing:
            raise ValueError(f"{path} has no array {missing[0]}.")
        return {name: torch.from_numpy(arrays[name].astype(np.float32)) for name in _names()}


def _cached_weights() -> dict[str, Tensor]:
    trunk = Path(torch.hub.get_dir()) / "checkpoints" / _HUB_FILE
    if not trunk.is_file():
        raise FileNotFoundError(f"AlexNet is not in torch's cache ({trunk}); ${LPIPS_VARIABLE} may name an .npz.")
    from torchmetrics.functional.image import lpips as shipped  # its linear layers come with the package

    linear = Path(shipped.__file__).parent / "lpips_models" / "alex.pth"
    state = {**torch.load(trunk, "cpu", weights_only=True), **torch.load(linear, "cpu", weights_only=True)}
    return {name: state[name].float() for name in _names()}


def _names() -> list[str]:
    trunk = [f"features.{index}.{kind}" for index, *_ in _CONVOLUTIONS for kind in ("weight", "bias")]
    return trunk + [f"lin{layer}.model.1.weight" for layer in range(len(_CONVOLUTIONS))]

"""Zip-NeRF's toy figure in two dimensions: a picture at six sizes as one function of place and width, learned three ways.

    python benchmarks/footprints.py                        # docs/antialiasing.png and a JSON line
    python benchmarks/footprints.py --picture FILE --steps 1500

Every pixel of every size is asked of one hash grid and one small network. *Points* are looked up at the middle of the pixel,
whatever its width, as Instant-NGP does. With *weights* (Zip-NeRF, section 3.1; this package's footprints) each level counts the
less the finer its cells are than the pixel. With *weights, six points* the features are the mean over six places of the pixel,
each of them narrower (Zip-NeRF's multisampling). The upper row shows what comes out of the finer levels along one line of the
picture for pixels of an eighth of its size: points alias, as neighbouring pixels have nothing in common.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "scripts")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from measure import records  # noqa: E402
from ngp_method.fields.adam import NgpAdam  # noqa: E402
from ngp_method.fields.averaged import xavier_uniform  # noqa: E402
from ngp_method.fields.trained import TrainedVector  # noqa: E402
from ngp_method.kernels import choose_kernels  # noqa: E402
from ngp_method.kernels.footprints import wide_output_dims  # noqa: E402
from ngp_method.kernels.layout import INIT_RANGE, HashGridLayout, MLPLayout  # noqa: E402
from ngp_method.volume.rays import footprint_of  # noqa: E402

SIDE, SCALES, BATCH = 512, 6, 1 << 14
GRID = HashGridLayout(n_levels=12, log2_hashmap_size=16, base_resolution=8, finest_resolution=1024, n_dims=2)
POINTS = 6
WAYS = ("points", "weights", "weights, six points")


class Grid:
    """A grid and a network, asked in one of the ways."""

    def __init__(self, way: str, kernels: Any) -> None:
        torch.manual_seed(1)
        self.way, self.kernels = way, kernels
        count = GRID.n_output_dims if way == "points" else wide_output_dims(GRID)
        self.layout = MLPLayout(count, 3, 64, 2)
        self.table = TrainedVector(torch.empty(GRID.n_params).uniform_(-INIT_RANGE, INIT_RANGE))
        self.weights = TrainedVector(xavier_uniform(self.layout))
        for vector in (self.table, self.weights):
            vector.kernels = kernels

    def features(self, places: Tensor, widths: Tensor) -> Tensor:
        """Of pixels [N] of such widths at places [N, 2] in [0, 1]: [N, C] float32."""
        encode, dense = self.kernels.hash_encode, self.kernels.dense_features
        spread: Tensor = footprint_of(widths**2)
        if self.way == "points":
            return dense(encode(places, self.table, GRID))  # type: ignore[no-any-return]
        if self.way == "weights":
            return dense(encode(places, self.table, GRID, spread))  # type: ignore[no-any-return]
        # On a circle that has half of the pixel's variance, each with the other half (Zip-NeRF, section 3.1).
        angles = torch.arange(POINTS) * (2 * math.pi / POINTS)
        circle = math.sqrt(2.0) * math.sqrt(0.5) * torch.stack([angles.cos(), angles.sin()], -1)
        several = places[:, None] + circle * spread[:, None, None]
        narrower = (math.sqrt(0.5) * spread)[:, None].expand(-1, POINTS)
        found = dense(encode(several.reshape(-1, 2).clamp(0, 1), self.table, GRID, narrower.reshape(-1)))
        return found.reshape(-1, POINTS, found.shape[-1]).mean(1)  # type: ignore[no-any-return]

    def colours(self, places: Tensor, widths: Tensor) -> Tensor:
        """[N, 3]."""
        found: Tensor = self.kernels.mlp([self.features(places, widths)], self.weights, self.layout)
        return found


def pyramid(picture: Tensor) -> list[Tensor]:
    """The picture [H, W, 3], and means over squares of 2, 4, 8, ... pixels."""
    found = [picture]
    for _ in range(SCALES - 1):
        last = found[-1]
        found.append((last[0::2, 0::2] + last[1::2, 0::2] + last[0::2, 1::2] + last[1::2, 1::2]) / 4)
    return found


def middles(side: int) -> Tensor:
    """Middles of side x side pixels, [N, 2], rows from the top."""
    axis = (torch.arange(side) + 0.5) / side
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2)


def train(grid: Grid, levels: list[Tensor], steps: int) -> list[float]:
    """Trains on pixels of all sizes, each size as often; returns the PSNR at each."""
    optimizer, random = NgpAdam([grid.table, grid.weights], lr=1e-2), torch.Generator().manual_seed(2)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * 0.03 ** max(0.0, (step / steps - 0.3) / 0.7)
        scale = torch.randint(0, SCALES, (BATCH,), generator=random)
        side = SIDE >> scale
        pixel = (torch.rand(BATCH, 2, generator=random) * side[:, None]).long()
        targets = torch.empty(BATCH, 3)
        for number, picture in enumerate(levels):
            here = scale == number
            targets[here] = picture[pixel[here, 1], pixel[here, 0]]
        loss = (grid.colours((pixel + 0.5) / side[:, None], 1.0 / side) - targets).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [psnr(grid, picture) for picture in levels]


@torch.no_grad()
def psnr(grid: Grid, picture: Tensor) -> float:
    """Over all pixels of one size."""
    side = picture.shape[0]
    found = grid.colours(middles(side), torch.full((side * side,), 1.0 / side))
    return float(-10 * torch.log10((found - picture.reshape(-1, 3)).square().mean()))


@torch.no_grad()
def draw(grids: dict[str, Grid], figures: dict[str, list[float]], path: Path) -> None:
    """Features of the finer half of the levels along a line, and PSNR over the size of the pixels."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(12, 6))
    x = torch.linspace(0.3, 0.7, 400)
    line = torch.stack([x, torch.full_like(x, 0.4)], -1)
    for axis, (way, grid) in zip(axes[0], grids.items()):
        features = grid.features(line, torch.full_like(x, 8.0 / SIDE))[:, : GRID.n_output_dims : 2]
        for level in range(GRID.n_levels // 2, GRID.n_levels):
            axis.plot(x, features[:, level], lw=0.8)
        axis.set(title=f"{way}: features of levels along a line", xlabel="x", ylim=(-1.5, 1.5))
    wide = figure.add_subplot(2, 1, 2)
    for axis in axes[1]:
        axis.remove()
    for way, values in figures.items():
        mean = sum(values) / len(values)
        wide.plot([str(SIDE >> k) for k in range(SCALES)], values, "o-", label=f"{way}: mean {mean:.1f} dB")
    wide.set(xlabel="pixels along the picture's edge", ylabel="PSNR (dB)")
    wide.grid(alpha=0.3)
    wide.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def the_picture(file: Path | None) -> Tensor:
    """[SIDE, SIDE, 3] in [0, 1]: the middle of a file, or the generator's own."""
    if file is None:
        import make_picture

        return torch.from_numpy(np.concatenate(list(make_picture.stripes(SIDE, SIDE, 0))))
    from PIL import Image

    with Image.open(file) as image:
        edge = min(image.size)
        left, top = (image.width - edge) // 2, (image.height - edge) // 2
        box = (left, top, left + edge, top + edge)
        return torch.from_numpy(np.array(image.convert("RGB").resize((SIDE, SIDE), box=box), np.float32) / 255)


def main() -> None:
    """Train the three, draw, record, and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, default=None, help="a picture of your own; default: a generated one")
    parser.add_argument("--steps", type=int, default=1500, help="steps of training, each")
    parser.add_argument("--output", type=Path, default=HERE.parent / "docs" / "antialiasing.png")
    args = parser.parse_args()
    levels = pyramid(the_picture(args.picture))
    kernels, _ = choose_kernels("auto", torch.device("cpu"))
    maker: Callable[[str], Grid] = lambda way: Grid(way, kernels)  # noqa: E731
    grids = {way: maker(way) for way in WAYS}
    figures = {way: train(grid, levels, args.steps) for way, grid in grids.items()}
    draw(grids, figures, args.output)
    rounded = {way: [round(value, 2) for value in values] for way, values in figures.items()}
    means = {way: round(sum(values) / SCALES, 2) for way, values in figures.items()}
    record = {**records.about("footprints"), "steps": args.steps, "psnr": rounded, "mean": means}
    records.keep(record, "footprints-toy")
    print(json.dumps(record))


if __name__ == "__main__":
    main()

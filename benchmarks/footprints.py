"""Zip-NeRF's toy figure in two dimensions: a picture at six sizes as one function of place and width, learned three ways.

    python benchmarks/footprints.py                        # docs/antialiasing.png and a JSON line
    python benchmarks/footprints.py --picture FILE --steps 1500

Squares of six sizes, anywhere in the picture, are asked of one hash grid and one small network, and measured at other places
than were trained on. *Points* are looked up at the middle of the square, whatever its width, as Instant-NGP does. With
*weights* (Zip-NeRF, section 3.1; this package's footprints) each level counts the less the finer its cells are than the square.
With *weights, six points* the features are the mean over six places of the square, each of them narrower (Zip-NeRF's
multisampling). The upper row shows what comes out of the finer levels along one line, for squares an eighth as fine.
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
sys.path.insert(0, str(HERE))

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


def sums(picture: Tensor) -> Tensor:
    """Sums over all pixels above and to the left of each corner, [H + 1, W + 1, 3] float64."""
    return torch.nn.functional.pad(picture.double().cumsum(0).cumsum(1), (0, 0, 1, 0, 1, 0))


def means(table: Tensor, places: Tensor, widths: Tensor) -> Tensor:
    """Exact means of the picture over squares of such widths around places [N, 2], [N, 3]."""
    side = table.shape[0] - 1

    def at(x: Tensor, y: Tensor) -> Tensor:
        column, row = x.long().clamp(0, side - 1), y.long().clamp(0, side - 1)
        fx, fy = (x - column)[:, None], (y - row)[:, None]
        upper = table[row, column] * (1 - fx) + table[row, column + 1] * fx
        lower = table[row + 1, column] * (1 - fx) + table[row + 1, column + 1] * fx
        return upper * (1 - fy) + lower * fy

    x, y = (side * places.double()).unbind(-1)
    half = 0.5 * side * widths.double()
    total = at(x + half, y + half) - at(x - half, y + half) - at(x + half, y - half) + at(x - half, y - half)
    return (total / (2 * half)[:, None].square()).float()


def draw_places(count: int, widths: Tensor, random: torch.Generator) -> Tensor:
    """Anywhere that a square of the width fits, [count, 2]."""
    return 0.5 * widths[:, None] + (1 - widths[:, None]) * torch.rand(count, 2, generator=random)


def train(grid: Grid, table: Tensor, steps: int) -> list[float]:
    """Trains on pixels of all sizes, each size as often; returns the PSNR at each, at other places."""
    optimizer, random = NgpAdam([grid.table, grid.weights], lr=1e-2), torch.Generator().manual_seed(2)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * 0.03 ** max(0.0, (step / steps - 0.3) / 0.7)
        widths = 2.0 ** torch.randint(0, SCALES, (BATCH,), generator=random) / SIDE
        places = draw_places(BATCH, widths, random)
        loss = (grid.colours(places, widths) - means(table, places, widths)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [psnr(grid, table, 2.0**k / SIDE, random) for k in range(SCALES)]


@torch.no_grad()
def psnr(grid: Grid, table: Tensor, width: float, random: torch.Generator) -> float:
    """At 2^16 places of one size."""
    widths = torch.full((1 << 16,), width)
    places = draw_places(1 << 16, widths, random)
    return float(-10 * torch.log10((grid.colours(places, widths) - means(table, places, widths)).square().mean()))


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
        axis.set(title=f"finer levels, {way}", xlabel="x", ylim=(-0.5, 0.5))
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
    """[SIDE, SIDE, 3] in [0, 1]: the middle of a file, or rings that grow finer outwards under rectangles with sharp edges."""
    if file is not None:
        from PIL import Image

        with Image.open(file) as image:
            edge = min(image.size)
            left, top = (image.width - edge) // 2, (image.height - edge) // 2
            box = (left, top, left + edge, top + edge)
            return torch.from_numpy(np.array(image.convert("RGB").resize((SIDE, SIDE), box=box), np.float32) / 255)
    axis = (np.arange(SIDE) + 0.5) / SIDE
    squared = (axis[:, None] - 0.5) ** 2 + (axis[None] - 0.5) ** 2
    picture = np.repeat(0.5 + 0.5 * np.cos(np.pi * SIDE * 0.7 * squared)[..., None], 3, -1)
    random = np.random.default_rng(0)
    for _ in range(300):
        (x, y), size = random.integers(0, SIDE, 2), random.integers(2, 60, 2)
        picture[y : y + size[1], x : x + size[0]] = random.random(3)
    return torch.from_numpy(picture.astype(np.float32))


def main() -> None:
    """Train the three, draw, record, and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, default=None, help="a picture of your own; default: a generated one")
    parser.add_argument("--steps", type=int, default=1500, help="steps of training, each")
    parser.add_argument("--output", type=Path, default=HERE.parent / "docs" / "antialiasing.png")
    args = parser.parse_args()
    table = sums(the_picture(args.picture))
    kernels, _ = choose_kernels("auto", torch.device("cpu"))
    maker: Callable[[str], Grid] = lambda way: Grid(way, kernels)  # noqa: E731
    grids = {way: maker(way) for way in WAYS}
    figures = {way: train(grid, table, args.steps) for way, grid in grids.items()}
    draw(grids, figures, args.output)
    rounded = {way: [round(value, 2) for value in values] for way, values in figures.items()}
    means = {way: round(sum(values) / SCALES, 2) for way, values in figures.items()}
    record = {**records.about("footprints"), "steps": args.steps, "psnr": rounded, "mean": means}
    records.keep(record, "footprints-toy")
    print(json.dumps(record))


if __name__ == "__main__":
    main()

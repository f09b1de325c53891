"""The pictures of docs/gallery.md: fitted pictures and distances beside what they were fitted to.

    python scripts/gallery.py RUN/config.yml docs/gallery --crops 1200 900 800, 2000 1500 200    # a run of instant-image
    python scripts/gallery.py RUN/config.yml docs/gallery                                        # a run of instant-sdf

Of a picture: the whole, and squares of it (left edge, top edge, side, in pixels; separated by commas), fitted on the left and
original on the right. Of a distance: the learned surface, that of the mesh under the same light, and how far apart they are.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from ngp_method.tools.runs import load_run

Rgb = npt.NDArray[np.uint8]
WIDTH, GAP, QUALITY = 480, 8, 90
"""Pixels of a panel and between panels; of JPEG."""

FINER = 2
"""Rays along each side of a pixel of a distance."""


def to_bytes(picture: Any) -> Rgb:
    """[H, W, 3] in [0, 1] as bytes."""
    found: Rgb = (np.asarray(picture, np.float32).clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return found


def beside(panels: list[Rgb]) -> Image.Image:
    """Panels [H, W, 3] of one height in a row, with white between them."""
    gap = np.full((panels[0].shape[0], GAP, 3), 255, np.uint8)
    parts = [part for panel in panels for part in (panel, gap)][:-1]
    return Image.fromarray(np.concatenate(parts, axis=1))


def original(source: Any, region: Any, size: tuple[int, int]) -> Rgb:
    """A part of the picture itself in another size: the mean light of pixels, or each of them as a square."""
    from ngp_method.pictures.curves import to_linear, to_srgb
    from ngp_method.primitives.image.field import shown

    x, y, width, height = (int(v) for v in (region.x, region.y, region.width, region.height))
    rows = torch.from_numpy(source.display_stripe(y, y + height)[:, x : x + width].copy())
    colors = shown(rows.reshape(height * width, -1)).view(height, width, 3)
    if width <= size[0]:
        return np.asarray(Image.fromarray(to_bytes(colors)).resize(size, Image.Resampling.NEAREST))
    light = torch.from_numpy(to_linear(colors.numpy()))
    mean = torch.nn.functional.adaptive_avg_pool2d(light.movedim(-1, 0), (size[1], size[0])).movedim(0, -1)
    return to_bytes(to_srgb(mean.numpy()))


def of_picture(model: Any, out: Path, crops: list[tuple[int, int, int]]) -> list[Path]:
    """The whole and squares of a fitted picture, each beside the original."""
    from ngp_method.primitives.image.field import write_picture

    source, written = model.source, []
    squares = [None, *((x, y, side, side) for x, y, side in crops)]
    for number, crop in enumerate(squares):
        region = model.picture.region(crop)
        path = out / f"{source.path.stem}-{'whole' if crop is None else number}.png"
        write_picture(model.picture, path, 8, source.profile, WIDTH, region)
        fitted = Image.open(path).convert("RGB")
        path.unlink()
        panels = [np.asarray(fitted), original(source, region, fitted.size)]
        target = path.with_suffix(".jpg")
        beside(panels).save(target, quality=QUALITY)
        written.append(target)
    return written


def of_distance(model: Any, cameras: Any, name: str, out: Path, view: int) -> list[Path]:
    """A learned surface, that of the mesh, and the difference along each ray with its scale."""
    from ngp_method.primitives.sdf.truth import look_at_mesh
    from ngp_method.studio.points.sdf_model import ERROR_SHOWN

    camera = copy.deepcopy(cameras[view : view + 1])
    camera.rescale_output_resolution(FINER * WIDTH / int(camera.width[0]))
    seen = model.get_outputs_for_camera(camera)
    rays = camera.generate_rays(camera_indices=0, keep_shape=True)
    flat = rays.flatten()
    true = look_at_mesh(model.shape, flat.origins + 0.5, flat.directions, model.up)
    assert true.colors is not None
    shaded = torch.where(true.hit[:, None], true.colors, 1.0).view(*rays.origins.shape)
    error = torch.from_numpy(matplotlib.colormaps["inferno"](seen["error"][..., 0].numpy())[..., :3])
    target = out / f"{name}.jpg"
    panels = [picture.movedim(-1, 0).float() for picture in (seen["rgb"], shaded, error)]
    beside([to_bytes(torch.nn.functional.avg_pool2d(p, FINER).movedim(0, -1)) for p in panels]).save(target, quality=QUALITY)
    print(f"white in the error map: {ERROR_SHOWN:g} of the cube's edge and more")
    return [target]


def main() -> None:
    """Loads a run and writes its pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="config.yml of a run of instant-image or instant-sdf")
    parser.add_argument("out", type=Path, help="folder for the pictures")
    parser.add_argument("--crops", default="", help="squares of a picture: X Y SIDE, X Y SIDE, ...")
    parser.add_argument("--view", type=int, default=2, help="camera of a distance, of those around the mesh")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    pipeline = load_run(args.run)
    with torch.no_grad():
        if hasattr(pipeline.model, "picture"):
            crops = [tuple(int(v) for v in square.split()) for square in args.crops.split(",") if square.strip()]
            written = of_picture(pipeline.model, args.out, crops)  # type: ignore[arg-type]
        else:
            data = pipeline.config.datamanager.data
            written = of_distance(pipeline.model, pipeline.datamanager.train_dataset.cameras, data.stem, args.out, args.view)
    for path in written:
        print(path)


if __name__ == "__main__":
    main()

"""``instant-hash-image``: the fitted picture back as a file, whole or in part, in any size; and the fitted function alone.

instant-hash-image --load-config RUN/config.yml --output out.png [--width W] [--crop X Y W H]
instant-hash-image --load-config RUN/config.yml --compact picture.npz
instant-hash-image --load-compact picture.npz --output out.png
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import torch
import tyro
from nerfstudio.utils.rich_utils import CONSOLE, get_progress

from ngp_method.errors import UserError, fail


@dataclass(frozen=True)
class Fitted:
    """A fitted picture and how its file is to be.

    Attributes:
        field: the picture as a function.
        bits: of a sample of the picture that it was fitted to: 8, 16 or 32.
        profile: its ICC profile, or None.
        source: that picture, or None where it is not known.
    """

    field: Any
    bits: int
    profile: Optional[bytes]
    source: Optional[Path]


@dataclass
class ImageCommand:
    """Writes a fitted picture as a file, or the fitted function alone."""

    load_config: Optional[Path] = None
    """The config.yml of the run."""
    load_compact: Optional[Path] = None
    """A file that --compact has written, instead of a run."""
    output: Optional[Path] = None
    """The picture to write: .png, .tif, .exr or .jpg."""
    width: Optional[int] = None
    """Pixels that it is wide; its height follows. Default: as wide as what it shows."""
    crop: Optional[tuple[int, int, int, int]] = None
    """What it shows of the fitted picture: left edge, top edge, width and height in its pixels. Default: all of it."""
    compact: Optional[Path] = None
    """File for the fitted function in half precision: what a picture takes when it is kept as a network."""

    def main(self) -> None:
        """Loads, writes, and says where and how large."""
        if (self.load_config is None) == (self.load_compact is None):
            fail("Give the run with --load-config RUN/config.yml, or a file of --compact with --load-compact FILE.")
        if self.output is None and self.compact is None:
            fail("Say what to write: --output FILE for the picture, --compact FILE for the function alone.")
        if self.output is None and (self.width is not None or self.crop is not None):
            fail("--width and --crop are of the picture: give its name with --output FILE.")
        if self.width is not None and self.width < 1:
            fail(f"--width {self.width}: give at least 1.")
        for path in (self.output, self.compact):
            if path is not None:
                _make_folder(path.parent)
        fitted = self.of_run() if self.load_config is not None else self.of_compact()
        if self.output is not None:
            self.write_picture(fitted, self.output)

    def of_run(self) -> Fitted:
        """The picture of a run; ``--compact`` is written here."""
        from ngp_method.studio.points.image_model import ImageModel  # after what it takes to say --help
        from ngp_method.tools.runs import load_run

        assert self.load_config is not None
        model = load_run(self.load_config).model
        if not isinstance(model, ImageModel):
            fail(f"--load-config {self.load_config}: not a run of instant-image; ns-train instant-image --data FILE makes one.")
        source = model.source
        fitted = Fitted(model.picture, 8 * source.dtype.itemsize, source.profile, source.path)
        if self.compact is not None:
            self.write_compact(model, fitted, self.compact)
        return fitted

    def write_compact(self, model: Any, fitted: Fitted, path: Path) -> None:
        """The function in half precision, and how large it is beside the picture."""
        from ngp_method.primitives.compact import write_compact

        profile = None if fitted.profile is None else base64.b64encode(fitted.profile).decode("ascii")
        about = {
            "picture": {
                "width": fitted.field.width,
                "height": fitted.field.height,
                "space": fitted.field.space,
                "premultiplied": fitted.field.premultiplied,
                "bits": fitted.bits,
                "profile": profile,
            }
        }
        size = write_compact(path, model.network, model.config.encoding, model.encoding_settings, about)
        assert fitted.source is not None
        whole = fitted.source.stat().st_size
        pixels = fitted.field.width * fitted.field.height * fitted.field.n_channels * fitted.bits // 8
        CONSOLE.print(
            f"{path}: {size / 1e6:.2f} MB, {size / whole:.2f} times {fitted.source.name} ({whole / 1e6:.2f} MB, its pixels "
            f"{pixels / 1e6:.2f} MB)",
            soft_wrap=True,
        )

    def of_compact(self) -> Fitted:
        """The picture of a file of ``--compact``."""
        from ngp_method.kernels import choose_kernels
        from ngp_method.primitives.compact import read_compact
        from ngp_method.primitives.image.field import PictureField

        assert self.load_compact is not None
        if self.compact is not None:
            fail("--compact writes the function of a run: give --load-config RUN/config.yml with it.")
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        kernels, line = choose_kernels("auto", device)
        CONSOLE.print(f"instant-hash-image {line}", soft_wrap=True)
        network, about = read_compact(self.load_compact, kernels)
        picture = about.get("picture")
        if picture is None:
            fail(f"--load-compact {self.load_compact}: the function of something else than a picture.")
        placed = (picture[name] for name in ("width", "height", "space", "premultiplied"))
        field = PictureField(network.to(device), *placed)
        profile = None if picture["profile"] is None else base64.b64decode(picture["profile"])
        return Fitted(field, picture["bits"], profile, None)

    def write_picture(self, fitted: Fitted, path: Path) -> None:
        """The picture, stripe by stripe, with as many bits as the one it was fitted to, where the kind of file has them."""
        from ngp_method.primitives.image.field import write_picture
        from ngp_method.primitives.image.writer import depths

        if fitted.source is not None and path.exists() and path.resolve() == fitted.source.resolve():
            fail(f"--output {path} is the picture that was fitted; give another name.")
        region = fitted.field.region(self.crop)
        bits = max((b for b in depths(path) if b <= fitted.bits), default=None)
        with get_progress(f"Writing {path.name}") as progress:
            task = progress.add_task("", total=1.0)
            width, height = write_picture(
                fitted.field,
                path,
                bits,
                fitted.profile,
                self.width,
                region,
                lambda share: progress.update(task, completed=share),
            )
        CONSOLE.print(f"{path}: {width} x {height} pixels, {path.stat().st_size / 1e6:.2f} MB", soft_wrap=True)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be made ({error.strerror}); give another place.") from None


def main() -> None:
    """Entry point of ``instant-hash-image``."""
    tyro.cli(ImageCommand, description=__doc__).main()

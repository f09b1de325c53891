"""``instant-hash-turntable``: a film of the scene going round, made without ffmpeg, and the camera path it follows.

``ns-render`` wants ffmpeg on the PATH even for pictures. This writes the film with PyAV, which nerfstudio depends on
and which brings its own encoder, and leaves the camera path as a JSON file that ``ns-render camera-path`` and the
viewer read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from nerfstudio.utils.rich_utils import CONSOLE, get_progress
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ngp_method.data.poses import nearest_to_axes, up_of
from ngp_method.errors import fail
from ngp_method.kernels.losses import over_background


def orbit(camera_to_worlds: Tensor, frames: int) -> Tensor:
    """Poses [frames, 4, 4] float64 that go once round what the cameras [N, 3, 4] look at, as high and far as they do.

    The centre is the point nearest to all optical axes; distance and height are the medians of the cameras'.
    OpenGL convention: columns right, up, backwards, position.
    """
    poses = camera_to_worlds.double().cpu()
    origins, backward = poses[:, :3, 3], torch.nn.functional.normalize(poses[:, :3, 2], dim=-1)
    center, up = nearest_to_axes(origins, backward)[0], up_of(poses)
    offset = origins - center
    height = float((offset @ up).median())
    reach = float((offset - (offset @ up)[:, None] * up).norm(dim=-1).median())
    first = offset[0] - (offset[0] @ up) * up
    if float(first.norm()) < 1e-6:
        first = torch.linalg.cross(up, torch.eye(3, dtype=torch.float64)[int(up.abs().argmin())])
    x = torch.nn.functional.normalize(first, dim=0)
    y = torch.linalg.cross(up, x)
    result = torch.eye(4, dtype=torch.float64).repeat(frames, 1, 1)
    for frame in range(frames):
        angle = 2.0 * math.pi * frame / frames
        arm = reach * (math.cos(angle) * x + math.sin(angle) * y) + height * up
        back = torch.nn.functional.normalize(arm, dim=0)
        right = torch.nn.functional.normalize(torch.linalg.cross(up, back), dim=0)
        result[frame, :3] = torch.stack([right, torch.linalg.cross(back, right), back, center + arm], dim=-1)
    return result


def camera_path(poses: Tensor, fov: float, width: int, height: int, fps: int) -> dict[str, Any]:
    """The camera path of nerfstudio's viewer and ``ns-render``; fov is the full vertical angle in degrees."""
    return {
        "camera_type": "perspective",
        "render_width": width,
        "render_height": height,
        "fps": fps,
        "seconds": len(poses) / fps,
        "is_cycle": True,
        "smoothness_value": 0.0,
        "camera_path": [{"camera_to_world": pose.flatten().tolist(), "fov": fov, "aspect": width / height} for pose in poses],
    }


def write_film(path: Path, pictures: Iterable[NDArray[np.uint8]], fps: int) -> None:
    """Writes pictures [H, W, 3], H and W even, as H.264 in an MP4 that browsers play."""
    import av  # loads the codecs

    with av.open(str(path), "w") as container:
        stream: Any = None
        for picture in pictures:
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(fps), options={"crf": "18"})
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        if stream is not None:
            container.mux(stream.encode())


def over_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture [H, W, 4] with straight alpha laid over white, [H, W, 3]."""
    straight = torch.from_numpy(rgba).float() / 255.0
    return (over_background(straight, torch.ones(3)) * 255.0 + 0.5).to(torch.uint8).numpy()


@dataclass
class TurntableCommand:
    """Renders a trained run going round once: turntable.mp4, turntable.png and camera_path.json."""

    load_config: Path
    """The config.yml of the run."""
    output_dir: Path
    """Folder for the files; made if need be."""
    frames: int = 48
    """Pictures of one turn."""
    size: int = 256
    """Pixels of the shorter side."""
    fps: int = 16
    """Pictures a second of the film."""

    def main(self) -> None:
        """Loads, renders, writes, and says where."""
        from nerfstudio.cameras.camera_paths import get_path_from_json

        from ngp_method.studio.model import without_normals  # after what it takes to say --help
        from ngp_method.tools.runs import load_run

        if self.frames < 2 or self.size < 16 or self.fps < 1:
            fail("A turntable needs --frames of 2, --size of 16 and --fps of 1 at least.")
        if self.output_dir.exists() and not self.output_dir.is_dir():
            fail(f"--output-dir {self.output_dir}: there is a file of that name.")
        pipeline = load_run(self.load_config)
        model = pipeline.model
        trained = pipeline.datamanager.train_dataset.cameras
        if len(trained) < 2:
            fail(
                f"--load-config {self.load_config}: a run of one view has nothing to go round; ns-render camera-path renders a "
                "path that the viewer has saved."
            )
        width, height, fov = self.view(trained)
        path = camera_path(orbit(trained.camera_to_worlds, self.frames), fov, width, height, self.fps)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        (self.output_dir / "camera_path.json").write_text(json.dumps(path), encoding="utf8")
        cameras = get_path_from_json(path).to(pipeline.device)
        pictures: list[NDArray[np.uint8]] = []
        with get_progress("Rendering the turntable", suffix="pictures/s") as progress:
            for index in progress.track(range(self.frames)):
                with without_normals():
                    outputs = model.get_outputs_for_camera(cameras[index : index + 1])
                rgba = model.get_rgba_image(outputs)
                pictures.append((rgba.clamp(0, 1) * 255.0 + 0.5).to(torch.uint8).cpu().numpy())
        film = self.output_dir / "turntable.mp4"
        write_film(film, map(over_white, pictures), self.fps)
        sheet = self.output_dir / "turntable.png"
        contact_sheet(pictures).save(sheet)
        CONSOLE.print(f"{film}: {self.frames} pictures of {width} x {height}; {sheet}: eight of them", soft_wrap=True)

    def view(self, cameras: Any) -> tuple[int, int, float]:
        """Width and height in pixels, both even as H.264 wants them, and the full vertical angle in degrees."""
        wide, high = float(cameras.width[0]), float(cameras.height[0])
        scale = self.size / min(wide, high)
        width, height = (max(2, 2 * round(0.5 * scale * edge)) for edge in (wide, high))
        return width, height, math.degrees(2.0 * math.atan(0.5 * high / float(cameras.fy[0])))


def contact_sheet(pictures: list[NDArray[np.uint8]], columns: int = 4, rows: int = 2) -> Image.Image:
    """Evenly chosen pictures [H, W, 4] side by side, with their transparency."""
    chosen = [pictures[index * len(pictures) // (columns * rows)] for index in range(columns * rows)]
    lines = [np.concatenate(chosen[row * columns : (row + 1) * columns], axis=1) for row in range(rows)]
    return Image.fromarray(np.concatenate(lines, axis=0))


def main() -> None:
    """Entry point of ``instant-hash-turntable``."""
    tyro.cli(TurntableCommand).main()

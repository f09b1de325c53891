"""What nerfbaselines hands over, as the rest of the package knows it: views in a capture, pixels and masks in memory.

Its cameras have OpenCV's axes (x right, y down, z ahead) and pixels that begin at 0 with their middles at 0.5, as ours do; its
``nears_fars`` are bounds for methods without a box, and are not used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nerfbaselines import camera_model_from_int
from nerfstudio.cameras.cameras import Cameras, CameraType
from numpy.typing import NDArray
from torch import Tensor

from ngp_method.data.capture import Capture
from ngp_method.data.placement import Placement
from ngp_method.data.sight import is_cut_out
from ngp_method.data.views import Lens, View, check_focal, check_pose, to_cameras
from ngp_method.errors import fail

CAMERA_MODELS = ("pinhole", "opencv", "opencv_fisheye")
"""The lenses that are computed; nerfbaselines undistorts images of others before it hands them over."""

OPENGL = np.array([1.0, -1.0, -1.0, 1.0])
"""Signs of the columns of a pose: OpenCV's axes -> x right, y up, z backwards."""


def lens_of(camera: Any, where: str) -> Lens:
    """The lens of one of nerfbaselines' cameras.

    Args:
        camera: nerfbaselines', a single one.
        where: names it in messages.

    Raises:
        UserError: no focal length, or a lens that is not computed.
    """
    model = camera_model_from_int(int(camera.camera_models))
    if model not in CAMERA_MODELS:
        fail(f"{where}: the camera model {model} is not computed; undistort the images, or give {', '.join(CAMERA_MODELS)}.")
    # k1, k2, p1, p2, k3, k4, of which opencv has the first four; opencv_fisheye has no p1 and p2
    k1, k2, p1, p2, k3, k4 = np.pad(np.asarray(camera.distortion_parameters, dtype=np.float64), (0, 6))[:6].tolist()
    distortion = {
        "pinhole": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        "opencv": (k1, k2, 0.0, 0.0, p1, p2),
        "opencv_fisheye": (k1, k2, k3, k4, 0.0, 0.0),
    }[model]
    fx, fy, cx, cy = (float(v) for v in camera.intrinsics)
    check_focal(min(fx, fy), where)
    width, height = (int(v) for v in camera.image_sizes)
    kind = CameraType.FISHEYE if model == "opencv_fisheye" else CameraType.PERSPECTIVE
    return Lens(width, height, fx, fy, cx, cy, distortion, kind)


def view_of(camera: Any, image: Path) -> View:
    """The view of one of nerfbaselines' cameras.

    Raises:
        UserError: no pose, no focal length, or a lens that is not computed.
    """
    pose = np.asarray(camera.poses, dtype=np.float64)[:3, :4] * OPENGL
    return View(image, str(image), check_pose(pose, str(image)), lens_of(camera, str(image)))


def placed_camera(camera: Any, placement: Placement) -> Cameras:
    """One of nerfbaselines' cameras in the world of a run, as nerfstudio has it, [1]."""
    view = view_of(camera, Path("the camera to render"))
    return to_cameras([view], placement.to_world(view.pose[None]), 1.0)


class Handed:
    """The training data that nerfbaselines hands over; never copied with a config that holds it.

    Args:
        dataset: nerfbaselines', with its images loaded.

    Attributes:
        capture: its views, and what is known of the scene.
        background: [3] colour behind its pictures in [0, 1], or None.

    Raises:
        UserError: images, masks or cameras that cannot be trained on; the sentence names the image.
    """

    def __init__(self, dataset: Mapping[str, Any]) -> None:
        metadata = dataset.get("metadata") or {}
        root = Path(str(dataset.get("image_paths_root") or "the data of nerfbaselines"))
        if metadata.get("color_space", "srgb") != "srgb":
            fail(f"{root} is in the color space {metadata['color_space']}; only srgb is trained on.")
        self._images: Sequence[NDArray[Any]] = dataset["images"]
        self._masks: Sequence[NDArray[Any]] | None = dataset.get("masks")
        paths = [Path(str(path)) for path in dataset["image_paths"]]
        if len(paths) < 2:
            fail(f"{root} leaves {len(paths)} image to train on; a radiance field needs views from at least two places.")
        views = [view_of(dataset["cameras"][i], path) for i, path in enumerate(paths)]
        points = dataset.get("points3D_xyz")
        # Blender's scenes have a box of their own; what all others have follows from cameras and points.
        self.capture = Capture("blender" if metadata.get("id") == "blender" else "colmap", root, views)
        self.capture.points = None if points is None or not len(points) else np.asarray(points, dtype=np.float64)
        for i in range(len(views)):
            self._check(i)
        self.capture.transparent = is_cut_out(self.pixels(0))
        self.background = _unit_color(metadata.get("background_color"))

    def __deepcopy__(self, memo: Any) -> Handed:
        return self

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """An image, [H, W, 3 or 4] uint8, straight alpha."""
        width, height = self.capture.views[index].lens.size
        # images of several sizes may come padded in one array
        return np.ascontiguousarray(self._images[index][:height, :width])

    def mask(self, index: int) -> Tensor | None:
        """The pixels of an image that may be trained on, [H, W] bool; None where the data have no masks."""
        if self._masks is None:
            return None
        width, height = self.capture.views[index].lens.size
        return torch.from_numpy(np.asarray(self._masks[index])[:height, :width] > 0)

    def _check(self, index: int) -> None:
        """Looks at one image and its mask."""
        view, image = self.capture.views[index], np.asarray(self._images[index])
        width, height = view.lens.size
        if image.ndim != 3 or image.shape[-1] not in (3, 4) or image.dtype != np.uint8:
            fail(f"{view.image} is handed over as {image.dtype} {list(image.shape)}; make it RGB or RGBA of 8 bits.")
        found = {"image": image, "mask": image if self._masks is None else np.asarray(self._masks[index])}
        for what, array in found.items():
            if array.shape[0] < height or array.shape[1] < width:
                fail(
                    f"{view.image}: its {what} is {array.shape[1]}x{array.shape[0]} pixels, and its camera is for "
                    f"{width}x{height}; give both the same size."
                )


def _unit_color(color: Any) -> tuple[float, float, float] | None:
    """A colour of bytes or of floats, [3] -> in [0, 1]."""
    if color is None:
        return None
    given = np.asarray(color)
    red, green, blue = (given / 255.0 if given.dtype.kind in "iu" else given).astype(float).tolist()
    return red, green, blue

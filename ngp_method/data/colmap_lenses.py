"""COLMAP's lens models in nerfstudio's terms: focal lengths, centre, six distortion numbers and one of two projections."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from nerfstudio.cameras.cameras import CAMERA_MODEL_TO_TYPE, CameraType
from nerfstudio.process_data.colmap_utils import parse_colmap_camera_params

from ngp_method.data.models import Camera
from ngp_method.errors import fail


@dataclass(frozen=True)
class Lens:
    """Pixels of a picture, and k1, k2, k3, k4, p1, p2 as nerfstudio orders them."""

    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...]
    camera_type: CameraType


_FISHEYES = {"SIMPLE_FISHEYE": "SIMPLE_RADIAL_FISHEYE", "FISHEYE": "OPENCV_FISHEYE"}
"""Lens models that are another one of COLMAP's with nothing distorted."""


def lens_of(camera: Camera) -> Lens | None:
    """A camera's lens; None where nerfstudio's numbers cannot say it."""
    known = _in_known_terms(camera)
    if known is None:
        return None
    try:
        said = parse_colmap_camera_params(known)
    except NotImplementedError:
        return None
    lens = Lens(
        fx=float(said["fl_x"]),
        fy=float(said["fl_y"]),
        cx=float(said["cx"]),
        cy=float(said["cy"]),
        distortion=tuple(float(said.get(key, 0.0)) for key in ("k1", "k2", "k3", "k4", "p1", "p2")),
        camera_type=CAMERA_MODEL_TO_TYPE[said["camera_model"]],
    )
    if camera.model == "FULL_OPENCV":  # its fifth distortion number is nerfstudio's third radial one
        k1, k2, _, k4, p1, p2 = lens.distortion
        lens = replace(lens, distortion=(k1, k2, camera.params[8], k4, p1, p2))
    return lens


def _in_known_terms(camera: Camera) -> Camera | None:
    """The same lens by a model that nerfstudio reads; None where there is none."""
    p = camera.params
    if camera.model in _FISHEYES:
        more = 1 if camera.model == "SIMPLE_FISHEYE" else 4
        return replace(camera, model=_FISHEYES[camera.model], params=(*p, *[0.0] * more))
    if camera.model == "FULL_OPENCV":  # fx, fy, cx, cy, k1, k2, p1, p2, k3, then the denominator's k4, k5, k6
        return replace(camera, model="OPENCV", params=p[:8]) if not any(p[9:]) else None
    if camera.model == "THIN_PRISM_FISHEYE":  # fx, fy, cx, cy, k1, k2, p1, p2, k3, k4, sx1, sy1
        same = not any((*p[6:8], *p[10:]))
        return replace(camera, model="OPENCV_FISHEYE", params=(*p[:6], *p[8:10])) if same else None
    return camera


def refuse_lens(where: str, camera: Camera, model: Path) -> NoReturn:
    """Ends the command for a lens that :func:`lens_of` has nothing for.

    Args:
        where: names file and image.
        camera: its lens.
        model: the model's folder.

    Raises:
        UserError: always.
    """
    if camera.model == "EQUIRECTANGULAR":
        fail(
            f"{where}: COLMAP's lens model EQUIRECTANGULAR is a panorama, which is not supported; cut it into views first, "
            "with ns-process-data images --camera-type equirectangular --data IMAGES --output-dir NEW, and give --data NEW."
        )
    fail(
        f"{where}: COLMAP's lens model {camera.model} is not supported; undistort the images first, with colmap "
        f"image_undistorter --image_path IMAGES --input_path {shlex.quote(str(model))} --output_path NEW, and give --data NEW."
    )

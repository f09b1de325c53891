"""COLMAP's lens models in nerfstudio's terms: focal lengths, centre, six distortion numbers and one of two projections."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from nerfstudio.cameras.cameras import CAMERA_MODEL_TO_TYPE, CameraType
from nerfstudio.process_data.colmap_utils import parse_colmap_camera_params

from ngp_method.data.distortion import MOST_ERROR, Six, fit_six, missed_by, say_fitted
from ngp_method.data.models import Camera
from ngp_method.data.views import Lens
from ngp_method.errors import fail

_FISHEYES = {"SIMPLE_FISHEYE": "SIMPLE_RADIAL_FISHEYE", "FISHEYE": "OPENCV_FISHEYE"}
"""Lens models that are another one of COLMAP's with nothing distorted."""


def read_lens_of(camera: Camera, where: str, model: Path) -> Lens:
    """A camera's lens in nerfstudio's terms.

    Args:
        camera: of the model.
        where: names file and image.
        model: the model's folder.

    Raises:
        UserError: nerfstudio's numbers cannot say it.
    """
    lens = lens_of(camera)
    if lens is None:
        _refuse(where, camera, model)
    if camera.model == "FULL_OPENCV" and any(camera.params[9:]):
        say_fitted(str(model))
    return lens


def lens_of(camera: Camera) -> Lens | None:
    """A camera's lens; None where nerfstudio's numbers cannot say it."""
    if camera.model == "FULL_OPENCV":
        six, error = _fit(camera)
        return _lens(camera, six, CameraType.PERSPECTIVE) if error <= MOST_ERROR else None
    if camera.model == "THIN_PRISM_FISHEYE":  # fx, fy, cx, cy, k1, k2, p1, p2, k3, k4, sx1, sy1
        k1, k2, p1, p2, k3, k4, *prism = camera.params[4:]
        return None if any(prism) else _lens(camera, (k1, k2, k3, k4, p1, p2), CameraType.FISHEYE)
    if camera.model == "RAD_TAN_THIN_PRISM_FISHEYE":  # fx, fy, cx, cy, k1 to k6, then the tangential ones and the prism's
        k1, k2, k3, k4, *more = camera.params[4:]
        return None if any(more) else _lens(camera, (k1, k2, k3, k4, 0.0, 0.0), CameraType.FISHEYE)
    known = camera
    if camera.model in _FISHEYES:
        more = [0.0] * (1 if camera.model == "SIMPLE_FISHEYE" else 4)
        known = replace(camera, model=_FISHEYES[camera.model], params=(*camera.params, *more))
    try:
        said = parse_colmap_camera_params(known)
    except NotImplementedError:
        return None
    k1, k2, k3, k4, p1, p2 = (float(said.get(key, 0.0)) for key in ("k1", "k2", "k3", "k4", "p1", "p2"))
    pinhole = (float(said["fl_x"]), float(said["fl_y"]), float(said["cx"]), float(said["cy"]))
    return Lens(camera.width, camera.height, *pinhole, (k1, k2, k3, k4, p1, p2), CAMERA_MODEL_TO_TYPE[said["camera_model"]])


def _lens(camera: Camera, six: Six, kind: CameraType) -> Lens:
    """Of a model whose parameters begin with fx, fy, cx, cy."""
    fx, fy, cx, cy = camera.params[:4]
    return Lens(camera.width, camera.height, fx, fy, cx, cy, six, kind)


def _fit(camera: Camera) -> tuple[Six, float]:
    """FULL_OPENCV's eight coefficients are OpenCV's; see :func:`fit_six`."""
    return fit_six((*camera.params[4:], 0.0, 0.0, 0.0, 0.0), camera.params[:4], (camera.width, camera.height))


def _refuse(where: str, camera: Camera, model: Path) -> NoReturn:
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
    why = "is not supported"
    if camera.model == "FULL_OPENCV":
        why = f"is in this case {missed_by(_fit(camera)[1])}"
    elif camera.model.endswith("PRISM_FISHEYE"):
        why = "is not supported with coefficients of a thin prism, or of more than r^8"
    fail(
        f"{where}: COLMAP's lens model {camera.model} {why}; undistort the images first, with colmap "
        f"image_undistorter --image_path IMAGES --input_path {shlex.quote(str(model))} --output_path NEW, and give --data NEW."
    )

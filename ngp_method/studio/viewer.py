"""nerfstudio's viewer made pleasant on a processor: where it opens, how large its pictures are, how often they come.

nerfstudio finds the model's :class:`ViewerComfort` by its type and hands it the viewer; nothing of nerfstudio is
replaced. What it sees to:

* every browser that connects opens at the first training camera, upright, with that camera's field of view, instead of
  somewhere near the origin. The thumbnail of that camera, which would stand right before the eye, is hidden;
* on a processor a still has 256 pixels along its longer side, which comes in under a second (fewer in the first seconds
  of a training), and pictures of a moving camera aim at 12 a second instead of 30 smaller ones;
* the slider "Train Util" works (nerfstudio 1.1.5 never reads it), and begins where a new picture comes every few seconds;
* rays that meet nothing have a far depth, so that the training cameras show beside the object;
* normals, which cost a gradient per sample, are rendered only while they are looked at;
* the viewer's thread is interrupted between chunks of rays only. nerfstudio raises an exception at whatever line of Python
  it is when the camera moves; inside a thread pool, a lock or numba's compiler that could leave training waiting forever.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
from nerfstudio.viewer.render_state_machine import RenderStateMachine
from nerfstudio.viewer.viewer_elements import ViewerControl
from numpy.typing import NDArray
from torch import Tensor

from ..data.poses import nearest_to_axes, up_of
from ..kernels.scene import SceneGeometry
from ..volume.rays import Rays

if TYPE_CHECKING:
    from nerfstudio.viewer.viewer import Viewer
    from viser import ClientHandle

CPU_RESOLUTION = 256
"""Pixels along the longer side of a still; a trained scene renders at 80,000 to 100,000 rays a second on two cores."""

CPU_FIRST_RESOLUTION = 96
"""The same while the scene is still a fog, every ray has hundreds of samples, and 256 pixels would take ten seconds."""

FOG_STEPS = 192
"""Steps after which pictures have their full size at the latest: the occupancy grid has been swept more than once."""

CPU_MOVING_FPS = 12
"""Pictures a second while the camera moves: at 30 they would have about 60 pixels along a side."""

CPU_TRAIN_SHARE = 0.7
"""Share of the time left to training while somebody looks on: with half a second a picture, one every two seconds."""

INTERRUPTIBLE_RAYS = 1 << 13
"""Rays after which the viewer's thread looks whether the camera has moved: a tenth of a second."""

NEVER = -(10**9)
"""A step so long ago that nerfstudio's viewer takes a new picture."""

VISER_SCALE = 10.0
"""Lengths in the browser per world unit (nerfstudio.viewer.viewer.VISER_NERFSTUDIO_SCALE_RATIO)."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FirstView:
    """Where the viewer opens, in world units.

    Attributes:
        position: [3] the training camera's.
        look_at: [3] point on its optical axis that the camera is turned about.
        up: [3] unit vector; the picture is upright as the training image is, and turning keeps this axis vertical.
        tan_x, tan_y: tangents of half the training image's horizontal and vertical angle of view.
    """

    position: Array
    look_at: Array
    up: Array
    tan_x: float
    tan_y: float

    def fov(self, aspect: float) -> float:
        """Vertical angle of view, radians, that shows the whole training image in a window of this width / height."""
        return 2.0 * math.atan(max(self.tan_y, self.tan_x / aspect))


def first_view(cameras: Cameras, index: int = 0) -> FirstView:
    """The view from a training camera.

    Args:
        cameras: training cameras, OpenGL axes (right, up, backwards).
        index: which of them.
    """
    matrices = cameras.camera_to_worlds.detach().cpu().double()
    poses, origins = matrices.numpy(), matrices[:, :, 3].numpy()
    right, upward, backward, origin = (poses[index, :, i] for i in range(4))
    axes = torch.nn.functional.normalize(matrices[:, :, 2], dim=-1)
    center, vertical = nearest_to_axes(matrices[:, :, 3], axes)[0].numpy(), up_of(matrices).numpy()
    distance = float((origin - center) @ backward)
    least = 0.1 * float(np.linalg.norm(origins - origins.mean(0), axis=-1).max())
    if distance <= max(least, 1e-6):
        # Cameras that look outwards, or a single one: turn about a point as far ahead as the cameras are apart.
        distance = max(10.0 * least, 0.5)
    up = vertical - (vertical @ right) * right
    if up @ upward < 0.1:
        up = upward
    fx, fy, width, height = (float(v[index]) for v in (cameras.fx, cameras.fy, cameras.width, cameras.height))
    return FirstView(origin, origin - distance * backward, up / np.linalg.norm(up), 0.5 * width / fx, 0.5 * height / fy)


class ViewerComfort(ViewerControl):
    """See the module's first lines.

    Args:
        cameras: training cameras; None leaves the viewer where nerfstudio opens it.
        device: what renders; a GPU keeps nerfstudio's sizes and rates.
        resolution, first_resolution: pixels along the longer side of a still on a processor, and of one in a fog.
        interruptible: rays after which the viewer's thread looks whether the camera has moved.
    """

    def __init__(
        self,
        cameras: Optional[Cameras],
        device: torch.device,
        resolution: int = CPU_RESOLUTION,
        first_resolution: int = CPU_FIRST_RESOLUTION,
        interruptible: int = INTERRUPTIBLE_RAYS,
    ) -> None:
        self._view = None if cameras is None or not len(cameras) else first_view(cameras)
        self._on_cpu = device.type == "cpu"
        self._resolution, self._first_resolution, self._interruptible = resolution, first_resolution, interruptible
        self._viewer: Optional[Viewer] = None
        self._hidden = False
        self._seconds_per_ray = math.inf
        self._last_render = math.inf

    def _setup(self, viewer: Viewer) -> None:
        """nerfstudio's hook, called once when the viewer's panel has been built."""
        super()._setup(viewer)
        self._viewer = viewer
        if self._on_cpu:
            # The panel has no public setters for these two.
            viewer.control_panel._max_res.value = self._resolution if viewer.trainer is None else self._first_resolution
            viewer.control_panel._train_util.value = CPU_TRAIN_SHARE
        viewer.viser_server.on_client_connect(self._welcome)
        # A page left open from an earlier run is back before the panel is built.
        for client in viewer.viser_server.get_clients().values():
            self._welcome(client)

    def _welcome(self, client: ClientHandle) -> None:
        """Places a new browser's camera."""
        assert self._viewer is not None
        machine = self._viewer.render_statemachines.get(client.client_id)
        if machine is not None and self._on_cpu:
            machine.target_fps = CPU_MOVING_FPS
        if self._view is None:
            return
        with client.atomic():
            client.camera.position = VISER_SCALE * self._view.position
            client.camera.look_at = VISER_SCALE * self._view.look_at
            client.camera.up_direction = self._view.up
            client.camera.fov = self._view.fov(client.camera.aspect)

    def callbacks(self) -> list[TrainingCallback]:
        """Nerfstudio's callbacks by which the viewer follows the training."""
        return [TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], self._before_step)]

    def _before_step(self, step: int) -> None:
        viewer = self._viewer
        if viewer is None:
            return
        panel = viewer.control_panel
        viewer.train_util = panel.train_util
        if self._picture_is_due(panel.train_util, panel.max_res):
            viewer.last_step = NEVER
        quick = self._seconds_per_ray * self._resolution**2 < 1.0
        if self._on_cpu and panel.max_res == self._first_resolution and (quick or step >= FOG_STEPS):
            panel._max_res.value = self._resolution
        handle = getattr(viewer, "camera_handles", {}).get(0)
        if handle is not None and not self._hidden and self._view is not None:
            handle.visible, self._hidden = False, True

    def _picture_is_due(self, share: float, resolution: int) -> bool:
        """Whether training has had its share since the last picture, by what a ray costs now.

        nerfstudio waits for so many steps by the mean of the last twenty pictures, which remembers the fog for minutes.
        """
        if not self._on_cpu or share >= 1.0:
            return False
        rest = share / (1.0 - share) * self._seconds_per_ray * resolution**2
        return time.monotonic() - self._last_render > rest

    # -- in the thread that renders

    def wants(self, output: str) -> bool:
        """Whether an output is to be rendered: anywhere but in the viewer always, there where it is looked at."""
        if not self._in_viewer() or self._viewer is None:
            return True
        panel = self._viewer.control_panel
        return output in (panel.output_render, panel.split_output_render if panel.split else None)

    def rays_at_a_time(self, otherwise: int) -> int:
        """Rays to render before the viewer may interrupt a processor; ``otherwise`` elsewhere (a GPU is done soon)."""
        return min(otherwise, self._interruptible) if self._on_cpu and self._in_viewer() else otherwise

    @contextmanager
    def undisturbed(self, n_rays: int) -> Iterator[None]:
        """Within it the viewer's thread is not interrupted: its trace function, which raises, is put aside.

        Args:
            n_rays: rays that are rendered within it.
        """
        if not self._in_viewer():
            yield
            return
        trace: Any = sys.gettrace()
        sys.settrace(None)
        begin = time.monotonic()
        try:
            yield
            self._last_render = time.monotonic()
            if n_rays >= self._interruptible // 4:  # fewer tell little of the speed of many
                self._seconds_per_ray = (self._last_render - begin) / n_rays
        finally:
            sys.settrace(trace)

    def depth_of_nothing(self, rays: Rays, geometry: SceneGeometry) -> Tensor:
        """Depth [R, 1], world units, of rays that meet nothing: where they leave the box (0 if they miss it).

        nerfstudio's TSDF export takes from it that space is free, and its search for the nearest camera that nothing is
        in between; zero would leave walls of unseen space around every object. In the viewer it is behind the cameras
        opposite: that hides by depth what lies behind the picture, and would hide those cameras.
        """
        if not self._in_viewer():
            return torch.where(rays.t_max > rays.t_min, rays.t_max, 0.0)[:, None]
        center = torch.tensor(geometry.center).to(rays.o)
        return 2.0 * (rays.o - center).norm(dim=-1, keepdim=True) + geometry.box_size

    @staticmethod
    def _in_viewer() -> bool:
        return isinstance(threading.current_thread(), RenderStateMachine)

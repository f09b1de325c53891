"""What nerfstudio wants to know of a data set, of something that is no data set of posed pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor
from torch.utils.data import Dataset


class MadeWhenAsked(Sequence[Tensor]):
    """Pictures that are made when they are looked at, once.

    Args:
        count: how many there are.
        make: makes one of them.
    """

    def __init__(self, count: int, make: Callable[[int], Tensor]) -> None:
        self._count, self._make = count, make
        self._made: dict[int, Tensor] = {}

    def __len__(self) -> int:
        """How many there are."""
        return self._count

    def __getitem__(self, index: Any) -> Any:
        """One of them."""
        if index not in self._made:
            self._made[index] = self._make(range(self._count)[index])
        return self._made[index]


class ViewDataset(Dataset[dict[str, Any]]):
    """Cameras from which the subject is looked at, and small pictures of what they see.

    Args:
        cameras: V views, OpenGL axes.
        pictures: V pictures [h, w, 3] float32 in [0, 1], of the size that each camera has; perhaps :class:`MadeWhenAsked`.
        metadata: what the model is given.
        box: [2, 3] least and largest corner of the subject, world units.
    """

    def __init__(self, cameras: Cameras, pictures: Sequence[Tensor], metadata: Mapping[str, Any], box: Tensor) -> None:
        if len(cameras) != len(pictures):
            raise ValueError(f"{len(cameras)} cameras and {len(pictures)} pictures: there must be one for each.")
        self.cameras, self.pictures = cameras, pictures
        self.metadata = dict(metadata)
        self.scene_box = SceneBox(aabb=box.float())

    def __len__(self) -> int:
        """Views."""
        return len(self.pictures)

    def __getitem__(self, image_idx: int) -> dict[str, Any]:
        """One view's picture, as nerfstudio's data sets give it."""
        return {"image_idx": int(image_idx), "image": self.pictures[image_idx]}


def view_cameras(poses: Tensor, focal: float, width: int, height: int) -> Cameras:
    """Pinhole cameras of one lens.

    Args:
        poses: [V, 3, 4] camera to world, OpenGL axes.
        focal: focal length in pixels.
        width, height: pixels.
    """
    return Cameras(
        camera_to_worlds=poses.float(),
        fx=torch.full((len(poses), 1), float(focal)),
        fy=torch.full((len(poses), 1), float(focal)),
        cx=0.5 * width,
        cy=0.5 * height,
        width=width,
        height=height,
    )

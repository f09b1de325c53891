"""Where a scene was put in the world when its training began, so that it stays there whatever becomes of its files.

Frame and box follow from all cameras of a data set. A picture that comes or goes would shift them, and what was trained would
be rendered in another place: a run therefore keeps what it began with, and later data are brought into that frame.
"""

from __future__ import annotations

import dataclasses
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from numpy.typing import NDArray
from torch import Tensor

from ngp_method.kernels.scene import SceneGeometry

SAME = 1e-5
"""Relative difference of two frames, or of two boxes, that counts as rounding."""

MOVED = 1e-3
"""Difference of the cameras' mean or spread, in their spread, from which they stand elsewhere."""

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Placement:
    """Frame and box of a scene, and what is to be recognised of its training images.

    Attributes:
        transform: [3, 4] float64, and scale: position of the files p -> scale * (transform @ p), the world.
        geometry: the box in the world; its ``reason`` is not kept.
        images: how many training images.
        names: checksum of their names.
        mean: [3], spread: mean of the training cameras' positions in the world, and root mean square distance from it.
    """

    transform: NDArray[np.float64]
    scale: float
    geometry: SceneGeometry
    images: int
    names: int
    mean: NDArray[np.float64]
    spread: float

    @classmethod
    def of(cls, outputs: DataparserOutputs, geometry: SceneGeometry) -> Placement:
        """That of a parser's training views."""
        origins = outputs.cameras.camera_to_worlds[..., 3].reshape(-1, 3).double().cpu().numpy()
        mean = origins.mean(0)
        names = "\n".join(path.name for path in outputs.image_filenames)
        return cls(
            transform=np.asarray(outputs.dataparser_transform.double().cpu().numpy())[:3],
            scale=float(outputs.dataparser_scale),
            geometry=geometry,
            images=len(outputs.image_filenames),
            names=zlib.crc32(names.encode("utf-8", "surrogateescape")),
            mean=mean,
            spread=float(np.sqrt(((origins - mean) ** 2).sum(-1).mean())),
        )

    def numbers(self) -> Numbers:
        """All of it as plain numbers, for a config or a checkpoint."""
        g = self.geometry
        box = (*g.center, g.unit_size, float(g.aabb_scale), g.near)
        rest = (float(self.images), float(self.names), *map(float, self.mean), self.spread)
        return (*map(float, self.transform.reshape(-1)), self.scale, *map(float, box), *rest)

    @classmethod
    def from_numbers(cls, numbers: Numbers) -> Placement:
        """What :meth:`numbers` gave."""
        transform, (scale, cx, cy, cz, unit, aabb_scale, near, images, names, *rest) = numbers[:12], numbers[12:]
        geometry = SceneGeometry((cx, cy, cz), unit, int(aabb_scale), near, "as the run began with")
        mean, spread = np.array(rest[:3]), float(rest[3])
        return cls(np.array(transform).reshape(3, 4), scale, geometry, int(images), int(names), mean, spread)

    def brought(self, outputs: DataparserOutputs, found: Placement) -> DataparserOutputs:
        """A split of the data, whose training views have the placement ``found``, in this frame; as it is if that is it."""
        if self._same_frame(found):
            return outputs
        mine, theirs = (np.vstack([one.scale * one.transform, [0.0, 0.0, 0.0, 1.0]]) for one in (self, found))
        move = mine @ np.linalg.inv(theirs)
        size = np.cbrt(abs(np.linalg.det(move[:3, :3])))
        poses = outputs.cameras.camera_to_worlds
        given = poses.double().cpu().numpy()
        given = np.concatenate([move[:3, :3] / size @ given[..., :3], given[..., 3:]], axis=-1)
        given[..., 3] = given[..., 3] @ move[:3, :3].T + move[:3, 3]
        outputs.cameras.camera_to_worlds = torch.from_numpy(given).to(poses)
        transform = torch.from_numpy(self.transform.copy()).to(outputs.dataparser_transform)
        return dataclasses.replace(outputs, dataparser_transform=transform, dataparser_scale=self.scale)

    def to_world(self, poses: NDArray[np.float64]) -> Tensor:
        """Camera to world [N, 3, 4] in the frame of the files -> the same in the world, [N, 3, 4] float32."""
        square = np.concatenate([poses, np.broadcast_to([[[0.0, 0.0, 0.0, 1.0]]], (len(poses), 1, 4))], axis=1)
        world = self.transform @ square
        world[..., 3] *= self.scale
        return torch.from_numpy(world).float()

    def changes(self, now: Placement, brought: Placement) -> str | None:
        """One line that says how the data have changed since; None where they have not.

        Args:
            now: what they would have been given by themselves.
            brought: where they are in this frame.
        """
        what = []
        if now.images != self.images:
            what.append(f"{self.images} training images then, {now.images} now")
        elif now.names != self.names:
            what.append("training images of other names")
        if float(np.abs(brought.mean - self.mean).max()) > MOVED * self.spread or (
            abs(brought.spread - self.spread) > MOVED * self.spread
        ):
            what.append("the cameras stand elsewhere")
        if not self._same_frame(now) or not self._same_box(now.geometry):
            what.append("by themselves they would be put into another box")
        if not what:
            return None
        return f"The data have changed since the run began ({'; '.join(what)}): its frame and box are kept."

    def _same_frame(self, other: Placement) -> bool:
        mine, theirs = self.scale * self.transform, other.scale * other.transform
        return bool(np.abs(mine - theirs).max() <= SAME * np.abs(mine).max())

    def _same_box(self, other: SceneGeometry) -> bool:
        g, size = self.geometry, SAME * self.geometry.unit_size
        numbers = [(*one.center, one.unit_size, one.near) for one in (g, other)]
        return g.aabb_scale == other.aabb_scale and all(abs(a - b) <= size for a, b in zip(*numbers))

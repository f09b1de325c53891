"""A signed distance as a function of position: fitted, sphere-traced, measured against its mesh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional

import numpy as np
import numpy.typing as npt
import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.utils.rich_utils import CONSOLE, get_progress
from nerfstudio.viewer.viewer_elements import ViewerDropdown, ViewerSlider
from torch import Tensor

from ...primitives.sdf.field import STEPS_SHOWN, DistanceField, Seen, slice_colors
from ...primitives.sdf.measures import chamfer, strict_iou, surface_error
from ...primitives.sdf.signed import SignedDistance
from ...primitives.sdf.surface import NoSurfaceYetError, extract_surface
from ...primitives.sdf.tracing import cut_to_box
from ...primitives.sdf.truth import look_at_mesh
from ..flags import first
from .model import PointModel, PointModelConfig
from .pipeline import PointPipeline, PointPipelineConfig

LOSS_FLOOR = 0.01
"""Added to what an error is divided by (tiny-cuda-nn ``losses/mape.h``, ``losses/relative_l2.h``)."""

BOUNDS_EVERY = 100
"""Training steps after which the bounds of the distance are made anew, when it is looked at."""

ERROR_SHOWN = 0.001
"""Error along a ray, in edges of the cube, that is shown as 1."""

CHAMFER_RESOLUTION, CHAMFER_FACES = 256, 4_000_000
"""Samples along an edge of the surface whose Chamfer distance is measured, and triangles beyond which it is not: ten times as
many as a detailed one has."""


@first("kernels", "encoding", "log2_hashmap_size", "n_levels", "n_features_per_level", "base_resolution", "finest_resolution")
@dataclass
class SdfModelConfig(PointModelConfig):
    """A signed distance, fitted as instant-ngp does."""

    _target: type = field(default_factory=lambda: SdfModel)
    """target class to instantiate"""
    log2_hashmap_size: Optional[int] = None
    """Log2 of the most entries of a level (T); default: 19 on a GPU, as in instant-ngp, 17 on a processor."""
    finest_resolution: Optional[int] = 2048
    """Resolution of the finest level (N_max) over the unit cube."""
    average_decay: float = 0.95
    """Decay, per step, of the running average of the weights that is rendered; 0 renders the weights themselves."""
    loss: Literal["mape", "relative_l2"] = "mape"
    """Mean absolute percentage error; or the squared error relative to the square of the prediction, which the paper takes
    for frequencies."""


class SdfModel(PointModel):
    """See :class:`SdfModelConfig`.

    Attributes:
        shape: the mesh's own distance.
        field: the learned one.
    """

    config: SdfModelConfig
    name = "instant-sdf"

    def populate_modules(self) -> None:
        """Builds the network."""
        super().populate_modules()
        metadata = self.kwargs["metadata"]
        self.shape: SignedDistance = metadata["shape"]
        self.up: Tensor = metadata["up"]
        on_gpu = torch.device(self.kwargs.get("device", "cpu")).type == "cuda"
        self.make_network(3, 1, 19 if on_gpu else 17, 2048, averaged=self.config.average_decay > 0)
        self.distance_field = DistanceField(self.network)
        self.register_load_state_dict_post_hook(lambda module, keys: self.distance_field.forget_bounds())
        config = self.config
        CONSOLE.print(
            f"{self.name} {self.network.n_params:,} numbers for {len(self.shape.mesh.faces):,} triangles; levels of "
            f"{config.base_resolution} to {config.finest_resolution} cells, 2^{config.log2_hashmap_size} entries",
            soft_wrap=True,
        )
        self.slice_axis = ViewerDropdown("Slice across", "z", ["x", "y", "z"], hint="Of the output 'slice'")
        self.slice_at = ViewerSlider("Slice at", 0.5, 0.0, 1.0, 0.01, hint="From one side of the cube to the other")
        self.make_comfort(metadata.get("train_cameras"))

    # -- training

    def compare(self, positions: Tensor, targets: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The loss of the config (paper appendix D; tiny-cuda-nn ``losses/mape.h``, ``losses/relative_l2.h``)."""
        found = self.network(positions)
        error = (found - targets).abs()
        if self.config.loss == "mape":
            loss = (error / (targets.abs() + LOSS_FLOOR)).mean()
        else:
            loss = (error.square() / (found.detach().square() + LOSS_FLOOR)).mean()
        metrics = {"mean_abs_error": error.detach().mean(), "num_points": torch.tensor(len(positions))}
        return {f"{self.config.loss}_loss": loss}, metrics

    def before(self, step: int) -> None:
        """The optimisers' steps are to bring the average up to date."""
        self.network.begin_average(self.config.average_decay)

    def after(self, step: int) -> None:
        """The average, and from time to time new bounds for whoever looks."""
        self.network.finish_average()
        if step % BOUNDS_EVERY == 0:
            self.distance_field.forget_bounds()

    # -- looking

    def look_along(self, ray_bundle: RayBundle) -> dict[str, Tensor]:
        """The surface: shaded, its normals, depth, how many evaluations it took, a slice, and how far it is from the mesh."""
        rays_o, rays_d = ray_bundle.origins + 0.5, ray_bundle.directions
        pixel = None if ray_bundle.pixel_area is None else ray_bundle.pixel_area.reshape(-1).sqrt()
        wants = self.viewer_comfort.wants

        def needed(what: str) -> bool:
            return any(map(wants, _OUTPUTS_OF[what]))

        seen = self.distance_field.look(rays_o, rays_d, self.up, pixel, needed, exact=wants("error"))
        outputs = _surface_outputs(seen)
        outputs["slice"] = self._slice(rays_o, rays_d) if wants("slice") else torch.ones_like(rays_d)
        outputs["error"] = torch.zeros_like(outputs["depth"])
        if wants("error"):
            true = look_at_mesh(self.shape, rays_o, rays_d, self.up)
            off = torch.where(seen.hit & true.hit, (seen.t - true.t).abs(), (seen.hit != true.hit).float())
            outputs["error"] = (off / ERROR_SHOWN).clamp(max=1.0)[:, None]
        return outputs

    def _slice(self, rays_o: Tensor, rays_d: Tensor) -> Tensor:
        """Distances on a plane through the cube, where rays meet it."""
        axis = "xyz".index(self.slice_axis.value)
        t = (float(self.slice_at.value) - rays_o[:, axis]) / rays_d[:, axis]
        t_min, t_max = cut_to_box(rays_o, rays_d)
        hit = (t >= t_min) & (t <= t_max) & (t > 0)
        found = torch.ones_like(rays_d)
        at = (rays_o[hit] + t[hit, None] * rays_d[hit]).clamp(0.0, 1.0)
        found[hit] = slice_colors(self.distance_field.distance(at))
        return found

    # -- measures

    def measure(self, folder: Optional[Path]) -> Mapping[str, float]:
        """Strict IoU, mean |d| on the surface, and the Chamfer distance of a surface of 256 samples a side.

        Args:
            folder: for that surface, in the mesh's own units; None: it is not written.
        """

        def distance(points: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            found = self.distance_field.distance(torch.from_numpy(points).to(self.device))
            return np.asarray(found.cpu().numpy())

        with get_progress("Comparing with the mesh") as progress:
            task = progress.add_task("", total=1.0)
            iou = strict_iou(distance, self.shape, progress=lambda share: progress.update(task, completed=0.8 * share))
            on_surface = surface_error(distance, self.shape)
            found = {"iou": iou, "surface_error": on_surface, "surface_error_world": on_surface / self.shape.mesh.scale}
            field, faces = self.distance_field.distance, np.zeros((0, 3), np.int32)
            try:
                vertices, faces = extract_surface(field, CHAMFER_RESOLUTION, self.device, most_faces=CHAMFER_FACES)
            except NoSurfaceYetError as error:
                CONSOLE.print(f"{self.name} {error}: no Chamfer distance; train longer", soft_wrap=True)
            if len(faces):
                apart = chamfer(vertices, faces, self.shape)
                found |= {"chamfer": apart.distance, "chamfer_world": apart.in_world}
            progress.update(task, completed=1.0)
        if folder is not None and len(faces):
            path = folder / "mesh.ply"
            self.write_mesh(vertices, faces, path)
            CONSOLE.print(f"The surface: {path}", soft_wrap=True)
        return found

    def write_mesh(self, vertices: npt.NDArray[np.float64], faces: npt.NDArray[np.int32], path: Path) -> None:
        """Writes a surface in the units of the mesh that was fitted; the ending says the kind of file."""
        import trimesh

        trimesh.Trimesh(self.shape.mesh.points_to_world(vertices), faces, process=False).export(path)

    def sentence(self, measures: Mapping[str, float]) -> str:
        """What was measured, in one line."""
        text = f"{self.name} IoU {measures['iou']:.4f} (strict), mean |d| on the surface {measures['surface_error']:.2e}"
        return text + (f", Chamfer distance {measures['chamfer']:.2e}" if "chamfer" in measures else ", no Chamfer distance")

    def sdf_at(self, points: Any, gradient: bool = False) -> Any:
        """Signed distances of any points, negative inside, in the units of the mesh.

        Args:
            points: [N, 3] in the units of the mesh, a tensor or an array. Outside of the cube around the mesh the distance to
                the cube is added to that at its border.
            gradient: also the gradients, which point outwards and are near unit length where the fit is good.

        Returns:
            [N] float32, and [N, 3] float32 if asked for; tensors on the model's device.
        """
        mesh = self.shape.mesh
        unit = torch.from_numpy(mesh.points_to_unit(torch.as_tensor(points).cpu().numpy())).float().to(self.device)
        was_training = self.training
        self.eval()
        try:
            values, gradients = self.distance_field.everywhere(unit)
        finally:
            self.train(was_training)
        return (values / mesh.scale, gradients) if gradient else values / mesh.scale


_OUTPUTS_OF = {"colors": ("rgb", "shaded"), "normals": ("normals",)}
"""Outputs of the viewer that need what :meth:`DistanceField.look` finds."""


def _surface_outputs(seen: Seen) -> dict[str, Tensor]:
    hit = seen.hit[:, None]
    shaded = torch.where(hit, torch.ones_like(seen.normals) if seen.colors is None else seen.colors, 1.0)
    return {
        "rgb": shaded,
        "shaded": shaded,
        "accumulation": hit.float(),
        "depth": seen.t[:, None],
        "normals": torch.where(hit, 0.5 * seen.normals + 0.5, 1.0),
        "steps": (seen.steps[:, None].float() / STEPS_SHOWN).clamp(max=1.0),
    }


@dataclass
class SdfPipelineConfig(PointPipelineConfig):
    """A mesh and its learned distance."""

    _target: type = field(default_factory=lambda: SdfPipeline)
    """target class to instantiate"""


class SdfPipeline(PointPipeline):
    """The pipeline of a distance, which can be asked for it."""

    model: SdfModel

    def sdf_at(self, points: Any, gradient: bool = False) -> Any:
        """See :meth:`SdfModel.sdf_at`."""
        return self.model.sdf_at(points, gradient)

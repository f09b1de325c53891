"""One training step of NeRF or mip-NeRF, with the interface of :class:`.step.Step`: all but the batch and the optimisers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..kernels.losses import ColorLoss, blend, mse, over_background
from .coarse_to_fine import CoarseToFine
from .intervals import Gathered
from .parts.background import PlainBackground
from .rays import Rays


class FixedRays:
    """How many rays a step has: always the same, where the number of samples is.

    Args:
        rays: that number.
    """

    def __init__(self, rays: int) -> None:
        self.rays = rays

    def begin(self, rays: int) -> None:
        """Another number."""
        self.rays = rays


@dataclass
class PredictedPasses:
    """What a step makes of its rays.

    Attributes:
        passes: what they have gathered in the first pass and in the second.
        background: [R, 3] what lies behind.
    """

    passes: list[Gathered]
    background: Tensor

    @property
    def fine(self) -> Gathered:
        """That of the second pass, which pictures are made of."""
        return self.passes[-1]


class CoarseToFineStep:
    """See the module's first line.

    Args:
        field: NeRF or mip-NeRF.
        background: what lies behind the rays.
        coarse_loss: weight of the first pass's loss (NeRF: 1; mip-NeRF: 0.1).
        rays: of a step.

    Attributes:
        budget: how many rays the next batch is to have.
        counts: of the last batch: ``rays``, samples ``marched`` (points that a perceptron was asked), and samples ``kept``: the
            same.
    """

    def __init__(self, field: CoarseToFine, background: PlainBackground, coarse_loss: float, rays: int) -> None:
        self.field, self.background, self.coarse_loss = field, background, coarse_loss
        self.budget = FixedRays(rays)
        self.counts = {"rays": 0, "marched": 0, "kept": 0}

    def predict(self, rays: Rays) -> PredictedPasses:
        """What both passes gather along rays, with gradients, and what is behind them."""
        passes = self.field.trace(rays, random=True)
        samples = passes[0].weights.shape[0] * self.field.samples_per_ray
        self.counts = {"rays": rays.n_rays, "marched": samples, "kept": samples}
        return PredictedPasses(passes, self.background.background(rays))

    def compare(self, predicted: PredictedPasses, pixels: Tensor) -> list[ColorLoss]:
        """The passes' rays against their pixels, [R, 3] or with straight alpha [R, 4], both over one background.

        mip-NeRF weighs each pixel's error by the area that it covers (lossmult) and divides by the sum of the weights. Here
        such pixels are drawn in proportion to their weight (:mod:`ngp_method.data.weighted`), and a plain mean is the same.
        """
        target = over_background(pixels, predicted.background)
        found = []
        for one in predicted.passes:
            loss = mse(blend(one.rgbs, one.opacities, predicted.background), target)
            found.append(ColorLoss(loss, loss.detach()))
        return found

    def losses(self, compared: list[ColorLoss]) -> dict[str, Tensor]:
        """Those of both passes by name, of which the sum is differentiated (mip-NeRF, section 3.2)."""
        return {"rgb_loss": compared[-1].loss, "coarse_loss": self.coarse_loss * compared[0].loss}

    def run_state(self) -> dict[str, Any]:
        """What the next step depends on beside parameters, optimisers and torch's generator: nothing."""
        return {}

    def load_run_state(self, state: dict[str, Any]) -> None:
        """There is nothing to go on from."""

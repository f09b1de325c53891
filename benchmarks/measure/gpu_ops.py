"""The operations that are timed: what is run, on which inputs, and the work it cannot do without."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ngp_method.kernels import AdamSettings, AdamState, Kernels
from ngp_method.kernels.layout import HashGridLayout
from ngp_method.kernels.samples import PackedSamples
from ngp_method.kernels.scene import SceneGeometry

from . import gpu_work as work
from .gpu_check import COLOUR, DENSITY, LAYOUTS
from .gpu_work import Work

SETS = 4
"""Input sets taken in turn: outputs of all of them are more than the second-level cache holds."""

GEOMETRY = SceneGeometry()


@dataclass
class Operation:
    """One line of the table of times.

    Attributes:
        name: e.g. ``hash_encode 16x2 forward, samples of rays``.
        check: the operation of the table of errors that must be right before this is timed.
        run: called with the number of an input set.
        work: its floor.
        prepare: called before each run, not timed.
        waits: it asks the device for a number itself, so that only the wall clock can time it.
    """

    name: str
    check: str
    run: Callable[[int], object]
    work: Work
    prepare: Callable[[int], object] | None = None
    waits: bool = False


class Inputs:
    """Samples of rays through a hollow ball, as many as a training step has, in several sets.

    Args:
        kernels: whose operations are timed.
        device: where.
        budget: samples a set, about.
    """

    def __init__(self, kernels: Kernels, device: torch.device, budget: int) -> None:
        self.kernels, self.device = kernels, device
        self.low = 2 if getattr(kernels, "low_precision", False) else 4
        self.rng = torch.Generator(device).manual_seed(7)
        axis = (torch.arange(128, device=device) + 0.5) / 128 - 0.5
        radius = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0)
        self.occupied = ((radius > 0.3) & (radius < 0.33))[None]
        self.n_rays = budget // 32
        self.rays = [self._rays() for _ in range(SETS)]
        self.samples = [kernels.march(*rays, self.occupied, GEOMETRY)[0] for rays in self.rays]
        self.positions = [kernels.points(o, d, s, GEOMETRY) for (o, d, *_), s in zip(self.rays, self.samples)]
        self.n = sum(s.n_samples for s in self.samples) // SETS

    def _rays(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        o = torch.nn.functional.normalize(self.normal(self.n_rays, 3), dim=-1)
        d = torch.nn.functional.normalize(0.6 * (self.uniform(self.n_rays, 3) - 0.5) - o, dim=-1)
        return o, d, torch.full_like(o[:, 0], 0.5), torch.full_like(o[:, 0], 1.5)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, generator=self.rng, device=self.device)

    def uniform(self, *shape: int) -> Tensor:
        """In [0, 1)."""
        return torch.rand(shape, generator=self.rng, device=self.device)


def backward(outs: Sequence[Tensor], leaves: Sequence[Tensor]) -> Callable[[], object]:
    """The backward of an operation, that can be run again and again and adds to no ``grad``."""
    cotangents = [torch.randn_like(out) for out in outs]
    return lambda: torch.autograd.grad(outs, leaves, cotangents, retain_graph=True)


def backward_in_place(out: Tensor) -> Callable[[], object]:
    """The same for a table whose gradient the operation itself adds to ``grad``."""
    cotangent = torch.randn_like(out)
    return lambda: out.backward(cotangent, retain_graph=True)


def hash_operations(inputs: Inputs, name: str, layout: HashGridLayout) -> Iterator[Operation]:
    """Forward, table gradient and position gradient, on samples of rays and on random positions."""
    kernels = inputs.kernels
    table = (2e-1 * inputs.uniform(layout.n_params) - 1e-1).requires_grad_()
    table.grad, table.grad_in_place = torch.zeros_like(table), True  # type: ignore[attr-defined] # as the optimiser has it
    scattered = [inputs.uniform(inputs.n, 3) for _ in range(SETS)]
    for kind, positions in (("samples of rays", inputs.positions), ("random positions", scattered)):
        n = sum(x.shape[0] for x in positions) // SETS
        with torch.no_grad():
            kernels.hash_encode(positions[0], table, layout)  # makes what it keeps of the table

        def forward(i: int, positions: list[Tensor] = positions) -> Tensor:
            with torch.no_grad():
                return kernels.hash_encode(positions[i], table, layout)

        yield Operation(f"hash_encode {name} forward, {kind}", "hash_encode", forward, work.hash_forward(n, layout, inputs.low))
        outs = [kernels.hash_encode(x.detach(), table, layout) for x in positions]
        steps = [backward_in_place(out) for out in outs]
        yield Operation(
            f"hash_encode {name} table gradient, {kind}", "hash_encode", lambda i, steps=steps: steps[i](),
            work.hash_table_gradient(n, layout, inputs.low),
        )  # fmt: skip
        if name != "16x2":
            continue
        fixed = table.detach()
        leaves = [x.detach().clone().requires_grad_() for x in positions]
        steps = [backward([kernels.hash_encode(x, fixed, layout)], [x]) for x in leaves]
        yield Operation(
            f"hash_encode {name} position gradient, {kind}", "hash_encode", lambda i, steps=steps: steps[i](),
            work.hash_position_gradient(n, layout, inputs.low),
        )  # fmt: skip


def mlp_operations(inputs: Inputs) -> Iterator[Operation]:
    """Both networks of the field, and the density alone as the occupancy grid asks for it."""
    kernels, layout, n = inputs.kernels, LAYOUTS["16x2"], inputs.n
    table = 0.2 * inputs.uniform(layout.n_params)
    weights = {net: (0.2 * inputs.normal(net.n_params)).requires_grad_() for net in (DENSITY, COLOUR)}
    with torch.no_grad():
        features = [kernels.hash_encode(x, table, layout) for x in inputs.positions]
        harmonics = [kernels.spread(kernels.sh_encode(rays[1]), s) for rays, s in zip(inputs.rays, inputs.samples)]
        raws = [kernels.mlp([f], weights[DENSITY], DENSITY) for f in features]
    for name, net, parts in (
        ("density", DENSITY, [[f] for f in features]),
        ("colour", COLOUR, [[raw, sh] for raw, sh in zip(raws, harmonics)]),
    ):

        def forward(i: int, net=net, parts=parts, rows: int | None = None) -> Tensor:  # type: ignore[no-untyped-def]
            with torch.no_grad():
                return kernels.mlp(parts[i], weights[net], net, rows)

        yield Operation(f"mlp {name} forward", "mlp", forward, work.mlp_forward(n, net, inputs.low))
        # The first part has a gradient: the encoding's features, or the density network's outputs.
        leaves = [[part[0].detach().requires_grad_(), *part[1:]] for part in parts]
        steps = [backward([kernels.mlp(part, weights[net], net)], [part[0], weights[net]]) for part in leaves]
        yield Operation(f"mlp {name} backward", "mlp", lambda i, steps=steps: steps[i](), work.mlp_backward(n, net, inputs.low))
        if name == "density":
            one = work.mlp_forward(n, net, inputs.low, rows=1)
            yield Operation("mlp density forward, one row", "mlp", lambda i, f=forward: f(i, rows=1), one)
    grid, density, color = LAYOUTS["16x2"], weights[DENSITY].detach(), weights[COLOUR].detach()
    for rows in (1, 16):
        yield Operation(
            f"encode_mlp 16x2, {rows} outputs", "fused",
            lambda i, rows=rows: kernels.encode_mlp(inputs.positions[i], table, density, grid, DENSITY, rows),
            work.encode_mlp(n, grid, DENSITY, inputs.low, rows),
        )  # fmt: skip
    yield Operation(
        "sh_mlp", "fused", lambda i: kernels.sh_mlp(raws[i], inputs.rays[i][1], inputs.samples[i], color, COLOUR),
        work.sh_mlp(n, inputs.n_rays, COLOUR),
    )  # fmt: skip
    yield Operation(
        "sh_encode and spread", "sh_encode",
        lambda i: kernels.spread(kernels.sh_encode(inputs.rays[i][1]), inputs.samples[i]),
        Work(inputs.n_rays * 12.0 + n * (4 + 16 * inputs.low)),
    )  # fmt: skip


def volume_operations(inputs: Inputs) -> Iterator[Operation]:
    """Marching, points, visibility, compaction and compositing."""
    kernels, n, r = inputs.kernels, inputs.n, inputs.n_rays
    sigmas = [60.0 * inputs.uniform(s.n_samples) for s in inputs.samples]
    rgbs = [inputs.uniform(3, s.n_samples).t() for s in inputs.samples]  # samples side by side, as networks return them
    samples: list[PackedSamples] = inputs.samples
    yield Operation(
        "march", "march", lambda i: kernels.march(*inputs.rays[i], inputs.occupied, GEOMETRY), work.march(n, r), waits=True
    )
    yield Operation("points", "points", lambda i: kernels.points(*inputs.rays[i][:2], samples[i], GEOMETRY), work.points(n, r))
    yield Operation(
        "visible_counts", "visible_counts", lambda i: kernels.visible_counts(sigmas[i], samples[i], 1e-4),
        work.visible_counts(n, r),
    )  # fmt: skip
    counts = [kernels.visible_counts(s, p, 1e-4) for s, p in zip(sigmas, samples)]
    layout = LAYOUTS["16x2"]
    with torch.no_grad():
        table = inputs.uniform(layout.n_params)
        features = [kernels.hash_encode(x, table, layout) for x in inputs.positions]
    kept = sum(int(c.sum()) for c in counts) // SETS
    yield Operation(
        "keep_first", "keep_first", lambda i: kernels.keep_first(samples[i], counts[i], [features[i], inputs.positions[i]]),
        work.keep_first(n, kept, r, layout.n_output_dims * inputs.low), waits=True,
    )  # fmt: skip
    yield Operation(
        "composite forward", "composite", lambda i: kernels.composite(sigmas[i], rgbs[i], samples[i]),
        work.composite_forward(n, r),
    )  # fmt: skip
    leaves = [(s.requires_grad_(), c.requires_grad_()) for s, c in zip(sigmas, rgbs)]
    outs = [kernels.composite(*leaf, p) for leaf, p in zip(leaves, samples)]
    steps = [backward([out.rgbs, out.opacities, out.depths], leaf) for out, leaf in zip(outs, leaves)]
    yield Operation("composite backward", "composite", lambda i: steps[i](), work.composite_backward(n, r))


def optimiser_operations(inputs: Inputs) -> Iterator[Operation]:
    """A step on the whole table with the gradient of one batch, and the running average."""
    kernels, layout = inputs.kernels, LAYOUTS["16x2"]
    table = torch.nn.Parameter(0.2 * inputs.uniform(layout.n_params))
    gradients = []
    for x in inputs.positions[:2]:
        leaf = table.detach().clone().requires_grad_()
        out = kernels.hash_encode(x, leaf, layout)
        out.backward(torch.randn_like(out))
        gradients.append(leaf.grad)
    with torch.no_grad():
        kernels.hash_encode(inputs.positions[0], table, layout)  # now there may be a copy to keep in step
    touched = int(torch.count_nonzero(gradients[0]))
    zeros = torch.zeros_like(table.detach())
    state = AdamState(zeros, zeros.clone(), torch.zeros(table.shape, dtype=torch.int16, device=inputs.device))
    target = torch.empty_like(zeros)
    yield Operation(
        f"adam_step table, {touched / layout.n_params:.0%} touched", "adam_step",
        lambda i: kernels.adam_step(table, target, state, AdamSettings(1e-2)),
        work.adam(layout.n_params, touched, 2 if inputs.low == 2 else 0),
        prepare=lambda i: target.copy_(gradients[i % 2]),
    )  # fmt: skip
    average = table.detach().clone()
    yield Operation(
        "adam_step table and average", "adam_step",
        lambda i: kernels.adam_step(table, target, state, AdamSettings(1e-2), average, 0.05),
        work.adam(layout.n_params, touched, 2 if inputs.low == 2 else 0, average=True),
        prepare=lambda i: target.copy_(gradients[i % 2]),
    )  # fmt: skip
    yield Operation(
        "average table", "adam_step", lambda i: kernels.average(average, table, 0.05), work.average(layout.n_params)
    )


def operations(inputs: Inputs) -> Iterator[Operation]:
    """All of them, one after the other: what one needs is gone before the next is made."""
    for name, layout in LAYOUTS.items():
        yield from hash_operations(inputs, name, replace(layout))
    yield from mlp_operations(inputs)
    yield from volume_operations(inputs)
    yield from optimiser_operations(inputs)

"""Functions of position: the same values and gradients in every kernel set, in two and three dimensions, with further inputs;
averages that are rendered, or none; points in any number."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ngp_method.fields import function
from ngp_method.fields.adam import NgpAdam
from ngp_method.fields.encodings import EncodingSettings, build_encoding
from ngp_method.fields.function import FunctionNetwork
from support.kernel_cases import SETS, generator, kernels_of, low_precision

EXTRA = 26
"""Further inputs: those of the radiance cache beside its grid (58 in all)."""


def settings(n_dims: int, **others: int) -> EncodingSettings:
    """A small grid with dense and hashed levels."""
    return EncodingSettings(4, 2, 9, 4, 64, n_frequencies=4, n_dims=n_dims, **others)


def made(
    kernel_set: str, n_dims: int = 2, outputs: int = 3, extra: int = 0, averaged: bool = True, encoding: str = "hash"
) -> FunctionNetwork:
    """A network whose numbers are the same whatever computes; its average is what it begins with."""
    torch.manual_seed(n_dims + outputs)
    network = FunctionNetwork(
        build_encoding(encoding, settings(n_dims)), kernels_of(kernel_set), outputs, extra, averaged=averaged
    )
    table = network.encoding.table()
    if table is not None:
        torch.nn.init.uniform_(table, -1.0, 1.0)
        table.data.copy_(table.data.half())
    network.begin_average(0.5)
    network.finish_average()
    return network


def results(network: FunctionNetwork, n: int, extra: int) -> dict[str, Tensor]:
    """Values and every gradient of a random scalar of them."""
    draw = generator(n, extra)
    x = torch.rand(n, network.encoding.n_dims, generator=draw).requires_grad_()
    more = torch.rand(n, extra, generator=draw).requires_grad_() if extra else None
    network.zero_grad()
    values = network(x, more)
    (values * torch.randn(values.shape, generator=draw)).sum().backward()
    found = {"values": values.detach(), "positions": x.grad, "mlp": network.mlp_params.grad}
    if more is not None:
        found["extra"] = more.grad
    if (table := network.encoding.table()) is not None:
        found["table"] = table.grad
    return {name: value for name, value in found.items() if value is not None}


@pytest.mark.parametrize("n", [0, 31, 1000])
@pytest.mark.parametrize(("n_dims", "outputs", "extra"), [(2, 1, 0), (2, 4, 0), (3, 1, 0), (3, 3, EXTRA)])
@pytest.mark.parametrize("kernel_set", SETS)
def test_every_set_computes_the_reference(kernel_set: str, n_dims: int, outputs: int, extra: int, n: int) -> None:
    expected = results(made("reference", n_dims, outputs, extra), n, extra)
    found = results(made(kernel_set, n_dims, outputs, extra), n, extra)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        # of bfloat16's 8 bits about two are lost over three layers and as many roundings; a neuron that rounding puts on the
        # other side of zero passes a gradient or stops it whole
        share = (0.01 if name == "values" else 0.1) if low_precision(kernel_set) else 2e-5
        assert found[name].shape == value.shape, name
        size = float(value.norm())
        assert float((found[name].float() - value).norm()) <= share * size, name
        assert size > 0 or n == 0, name


@pytest.mark.parametrize("encoding", ["hash", "dense", "frequency", "none"])
@pytest.mark.parametrize("n_dims", [2, 3])
def test_any_encoding_takes_any_dimension(encoding: str, n_dims: int) -> None:
    network = made("cpu-float32", n_dims, encoding=encoding)
    assert network.encoding.n_dims == n_dims
    expected = {"hash": 8, "dense": 8, "frequency": 2 * 4 * n_dims, "none": n_dims}[encoding]
    assert network.encoding.n_output_dims == expected == network.mlp_layout.n_input_dims
    x = torch.rand(100, n_dims, generator=generator(1))
    torch.testing.assert_close(network.value_at(x), network(x))
    assert network.value_at(x).std() > 0


def test_dense_grids_have_an_entry_for_every_point_of_a_level() -> None:
    for n_dims, finest in ((2, 1448), (3, 128)):
        encoding = build_encoding("dense", EncodingSettings(n_levels=4, finest_resolution=1 << 14, n_dims=n_dims))
        levels = encoding.layout.levels  # type: ignore[union-attr]
        assert all(level.dense for level in levels)
        assert levels[-1].resolution in (finest, finest + 1)


@pytest.mark.parametrize("kernel_set", ["reference", *SETS])
def test_averages_are_rendered_and_parameters_are_trained(kernel_set: str) -> None:
    network = made(kernel_set)
    x, start = torch.rand(50, 2, generator=generator(2)), network.mlp_params.detach().clone()
    optimizer = NgpAdam(network.parameters(), lr=0.1)
    values = []
    for _ in range(2):
        optimizer.zero_grad()
        network(x).square().sum().backward()
        network.begin_average(0.5)
        optimizer.step()
        network.finish_average()
        values.append(network.mlp_params.detach().clone())
    # debiased: of the three, each weighs half of what the next one does
    torch.testing.assert_close(network.average_mlp, (0.25 * start + 0.5 * values[0] + values[1]) / 1.75)
    assert not torch.equal(values[1], start)
    trained = network.value_at(x)
    assert not torch.equal(network.eval().value_at(x), trained)


def test_without_averages_what_is_trained_is_rendered() -> None:
    network = made("cpu-float32", averaged=False)
    assert not [name for name in network.state_dict() if "average" in name]
    network.begin_average(0.5)
    network.finish_average()
    x = torch.rand(50, 2, generator=generator(2))
    assert torch.equal(network.eval().value_at(x), network.train().value_at(x))


def test_a_checkpoint_holds_all_of_it() -> None:
    first, second = made("cpu-float32"), made("cpu-float32", outputs=3)
    torch.nn.init.uniform_(first.mlp_params)
    first.begin_average(0.5)
    first.finish_average()
    second.load_state_dict(first.state_dict())
    x = torch.rand(50, 2, generator=generator(3))
    assert torch.equal(first.eval().value_at(x), second.eval().value_at(x))
    first.begin_average(0.5)
    second.begin_average(0.5)
    due = first.mlp_params.due, second.mlp_params.due
    assert due[0] is not None
    assert due[1] is not None
    assert due[0].weight == due[1].weight == 0.5 / (1 - 0.5**3)


@pytest.mark.parametrize("extra", [0, EXTRA])
def test_points_in_any_number(extra: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network = made("cpu-float32", 3, 1, extra).eval()
    draw = generator(4)
    x = torch.rand(100, 3, generator=draw)
    more = torch.rand(100, extra, generator=draw) if extra else None
    value, (both, slope) = network.value_at(x, more), network.value_and_gradient(x, more)
    monkeypatch.setattr(function, "POINTS_AT_A_TIME", 32)
    torch.testing.assert_close(network.value_at(x, more), value)
    torch.testing.assert_close(both, value)
    again, slope_again = network.value_and_gradient(x, more)
    assert not again.requires_grad
    assert not slope_again.requires_grad
    torch.testing.assert_close(slope_again, slope)
    none = network.value_and_gradient(x[:0], None if more is None else more[:0])
    assert [tuple(part.shape) for part in none] == [(0, 1), (0, 3)]
    assert network.value_at(x[:0], None if more is None else more[:0]).shape == (0, 1)


def test_the_gradient_is_that_of_the_value() -> None:
    """Against central differences inside a cell, in float64's place: the reference, with a step that is small for its cells."""
    network, step = made("reference", 3, 1).eval(), 2e-5
    x = torch.rand(40, 3, generator=generator(5)) * 0.9 + 0.05
    _, slope = network.value_and_gradient(x)
    numeric = torch.stack(
        [
            (network.value_at(x + step * axis)[:, 0] - network.value_at(x - step * axis)[:, 0]) / (2 * step)
            for axis in torch.eye(3)
        ],
        -1,
    )
    # a ReLU or a cell's border within the step makes a difference of its own: most points have neither
    close = (slope - numeric).abs().amax(-1) < 0.02 * slope.abs().amax()
    assert float(close.float().mean()) > 0.8

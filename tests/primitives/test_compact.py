"""A function alone in a file: read again it is the function, in half precision; what is no such file is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ngp_method.errors import UserError
from ngp_method.fields.encodings import EncodingSettings, build_encoding
from ngp_method.fields.function import FunctionNetwork
from ngp_method.primitives.compact import read_compact, write_compact
from support.kernel_cases import kernels_of

SETTINGS = EncodingSettings(5, 2, 9, 4, 64, n_frequencies=4, n_dims=2)


def made(encoding: str, averaged: bool = False) -> FunctionNetwork:
    """A network with numbers of its own."""
    torch.manual_seed(3)
    network = FunctionNetwork(build_encoding(encoding, SETTINGS), kernels_of("cpu-float32"), 3, averaged=averaged)
    for vector in network.vectors().values():
        torch.nn.init.uniform_(vector, -0.3, 0.3)
    return network.eval()


@pytest.mark.parametrize("encoding", ["hash", "frequency", "dense", "none"])
def test_it_is_read_again(encoding: str, tmp_path: Path) -> None:
    network = made(encoding)
    size = write_compact(tmp_path / "f.npz", network, encoding, SETTINGS, {"picture": {"width": 3}})
    assert size == (tmp_path / "f.npz").stat().st_size
    assert 2 * network.n_params < size < 2 * network.n_params + 3000
    again, about = read_compact(tmp_path / "f.npz", kernels_of("reference"))
    assert about["picture"] == {"width": 3}
    for name, vector in network.vectors().items():
        assert torch.equal(again.vectors()[name], vector.half().float())
    points = torch.rand(100, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(again.value_at(points), network.value_at(points), atol=3e-3, rtol=0)
    assert not list(tmp_path.glob(".*")), "nothing half written is left"


def test_the_average_is_what_is_kept_of_a_network_that_has_one(tmp_path: Path) -> None:
    network = made("hash", averaged=True)
    network.begin_average(0.5)
    network.finish_average()
    with torch.no_grad():
        network.mlp_params.add_(1.0)  # trained on, and not averaged
    write_compact(tmp_path / "f.npz", network, "hash", SETTINGS, {})
    again, _ = read_compact(tmp_path / "f.npz", kernels_of("reference"))
    assert torch.equal(again.mlp_params, network.current()["mlp"].half().float())
    assert not torch.equal(again.mlp_params, network.mlp_params.half().float())


def test_numbers_beyond_half_precision_are_said_and_nothing_is_written(tmp_path: Path) -> None:
    network = made("hash")
    with torch.no_grad():
        network.mlp_params[0] = 1e6
    with pytest.raises(UserError, match="not finite in half precision"):
        write_compact(tmp_path / "f.npz", network, "hash", SETTINGS, {})
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        write_compact(tmp_path / "nowhere" / "f.npz", made("none"), "none", SETTINGS, {})


@pytest.mark.parametrize("kind", ["missing", "text", "cut", "foreign", "newer"])
def test_what_is_no_such_file_is_said(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "f.npz"
    if kind == "text":
        path.write_text("hello")
    elif kind == "foreign":
        np.savez(path, numbers=np.arange(3))
    elif kind == "newer":
        np.savez(path, about=np.frombuffer(b'{"format": "instant-hash function 9"}', np.uint8))
    elif kind == "cut":
        write_compact(path, made("hash"), "hash", SETTINGS, {})
        path.write_bytes(path.read_bytes()[:-400])
    words = {"missing": "no such file", "newer": "of another format"}.get(kind, "is no file of instant-hash-image --compact")
    with pytest.raises(UserError, match=f"f.npz.*{words}"):
        read_compact(path, kernels_of("reference"))

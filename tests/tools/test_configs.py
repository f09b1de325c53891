"""Every file in configs/: it loads, builds its network, and the command it stands for parses."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import tyro
from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion

from ngp_method.fields.encodings import EncodingSettings, build_encoding
from ngp_method.fields.function import FunctionNetwork
from ngp_method.fields.network import RadianceNetwork
from ngp_method.kernels import load_kernels
from ngp_method.kernels.layout import HashGridLayout
from ngp_method.studio.points.pipeline import PointPipelineConfig
from ngp_method.tools import train

FILES = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yml"))


def test_there_are_some() -> None:
    names = {path.stem for path in FILES}
    assert {
        "blender",
        "real",
        "cpu-smoke",
        "figure2-hash-T14",
        "figure2-hash-T19",
        "figure2-frequency",
        "image-ngp",
        "sdf-paper",
    } <= names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_loads_and_builds(path: Path) -> None:
    _, preset, settings = train.split(train.read(path), path)
    config = train.apply(preset, settings, path)
    for name, value in settings.items():
        owner = config
        for part in name.split("."):
            owner = owner[part] if isinstance(owner, dict) else getattr(owner, part)
        assert owner == (tuple(value) if isinstance(value, list) else value)
    model = config.pipeline.model
    dims = 2 if config.method_name == "instant-image" else 3
    sizes = EncodingSettings(
        model.n_levels, model.n_features_per_level, model.log2_hashmap_size, model.base_resolution,
        model.finest_resolution or 2048, model.n_frequencies, dims,
    )  # fmt: skip
    encoding, kernels = build_encoding(model.encoding, sizes), load_kernels("reference")
    layers = model.n_neurons, model.n_hidden_layers
    network: torch.nn.Module
    if isinstance(config.pipeline, PointPipelineConfig):
        network = FunctionNetwork(encoding, kernels, 3, 0, *layers)
    else:
        network = RadianceNetwork(encoding, kernels, *layers, model.n_hidden_layers_color, directions=model.direction_encoding)
    assert sum(p.numel() for p in network.parameters()) > 9_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_command_parses(path: Path) -> None:
    method, preset, settings = train.split(train.read(path), path)
    words = [method, *train.flags(settings), "--data", "somewhere"]
    parsed = tyro.cli(AnnotatedBaseConfigUnion, args=words)
    expected = train.apply(preset, settings, path)
    assert parsed.method_name == method
    assert parsed.pipeline.model == expected.pipeline.model
    assert parsed.pipeline.datamanager == dataclasses.replace(expected.pipeline.datamanager, data=None)
    assert parsed.max_num_iterations == expected.max_num_iterations
    assert parsed.optimizers == expected.optimizers


def test_paper_sizes() -> None:
    """Within 4 % of the grid sizes that the paper's figure 2 prints for (e) and (f), whose N_max it does not give."""
    for name, printed in (("figure2-hash-T14", 494e3), ("figure2-hash-T19", 12.6e6)):
        _, preset, settings = train.split(train.read(FILES[0].parent / f"{name}.yml"))
        config = train.apply(preset, settings).pipeline.model
        grid = HashGridLayout(
            config.n_levels, config.n_features_per_level, config.log2_hashmap_size, config.base_resolution, 2048
        )
        assert grid.n_params == pytest.approx(printed, rel=0.04)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("none", {"networks": 413_696}),  # none.json with widths padded to 16; the paper prints 411k
        ("frequency", {"networks": 438_272}),  # frequency.json so; printed 438k
        ("dense-single", {"grid": 33.6e6}),
        ("dense-multi", {"grid": 16.3e6}),
    ],
)
def test_parameters_of_figure_2(name: str, sizes: dict[str, float]) -> None:
    """The other rows of the paper's figure 2."""
    _, preset, settings = train.split(train.read(FILES[0].parent / f"figure2-{name}.yml"))
    model = train.apply(preset, settings).pipeline.model
    encoding = build_encoding(
        model.encoding,
        EncodingSettings(
            n_levels=model.n_levels,
            n_features_per_level=model.n_features_per_level,
            finest_resolution=model.finest_resolution or 2048,
            base_resolution=model.base_resolution,
            n_frequencies=model.n_frequencies,
        ),
    )
    network = RadianceNetwork(
        encoding, load_kernels("reference"), model.n_neurons, model.n_hidden_layers, model.n_hidden_layers_color,
        directions=model.direction_encoding,
    )  # fmt: skip
    if "networks" in sizes:
        assert network.density_params.numel() + network.color_params.numel() == sizes["networks"]
    else:
        table = encoding.table()
        assert table is not None
        assert table.numel() == pytest.approx(sizes["grid"], rel=0.01)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pipeline.model.n_lovels: 3\n", "there is no setting 'pipeline.model.n_lovels'"),
        ("pipeline.model.n_levels: many\n", "takes a value of type int, not 'many'"),
        ("pipeline: {model: 3}\n", "'pipeline' is not a dotted path"),
        ("a: [1\n", "not YAML (line 2)"),
        ("", "holds no settings"),
        ("method: nerfacto\nmax_num_iterations: 3\n", "'method: nerfacto' is none of the methods here"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.yml"
    path.write_text(text)

    def use() -> None:
        _, preset, settings = train.split({"method": "instant-hash", **train.read(path)}, path)
        train.apply(preset, settings, path)

    with pytest.raises(SystemExit) as caught:
        use()
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no such file"):
        train.read(tmp_path / "none.yml")


def test_a_file_must_say_what_it_builds_on() -> None:
    """A file without a preset would mean one thing on a GPU and another on a processor."""
    with pytest.raises(SystemExit, match="names no method; begin the file with 'method: ' and one of instant-hash"):
        train.split({"max_num_iterations": 3}, "mine.yml")

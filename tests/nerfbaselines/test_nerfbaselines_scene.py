"""The benchmark's local scene: what nerfbaselines' loader reads of it is what our parser reads of the user's folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfbaselines.datasets import load_dataset

from measure import lpips_trunks, nerfbaselines_scene
from ngp_method.data.auto import AutoDataParserConfig
from ngp_method.data.images import ByteDataset
from support.scenes import write_blender, write_ngp


@pytest.mark.parametrize(("split", "ours"), [("train", "train"), ("test", "test")])
def test_half_size_is_half_size(split: str, ours: str, tmp_path: Path) -> None:
    folder = write_blender(tmp_path / "whole", train=3, val=0, test=2)
    nerfbaselines_scene.write(folder, 0.5, tmp_path / "half", "lego")
    found = load_dataset(str(tmp_path / "half"), split, features=frozenset(("color",)), load_features=True)
    outputs = AutoDataParserConfig(data=folder).setup().get_dataparser_outputs(ours)
    dataset = ByteDataset(outputs, 0.5)
    assert len(found["images"]) == len(dataset)
    for i, image in enumerate(found["images"]):
        assert np.array_equal(image, dataset.get_numpy_image(i))
    assert found["cameras"].intrinsics[:, 0] == pytest.approx(dataset.cameras.fx[:, 0].numpy(), rel=1e-6)
    assert found["cameras"].image_sizes.tolist() == [[24, 24]] * len(dataset)
    assert (found["metadata"]["id"], found["metadata"]["scene"]) == ("blender", "lego")
    assert found["metadata"]["evaluation_protocol"] == "nerf"


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    folder = write_ngp(tmp_path / "ngp", count=3)
    with pytest.raises(SystemExit, match="a scene in the layout of instant-ngp; this benchmark takes Blender's"):
        nerfbaselines_scene.write(folder, 1.0, tmp_path / "out", None)


def test_torchvision_takes_the_trunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both networks load from the cache that is made of their convolutions, and nothing is downloaded."""
    from torchvision import models

    trunks = lpips_trunks.at_random()
    for network, arrays in trunks.items():
        np.savez(tmp_path / lpips_trunks.FILES[network], **arrays)
    lpips_trunks.write(lpips_trunks.read(tmp_path), tmp_path / "torch")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *a, **k: pytest.fail("a download"))
    for network, weights in (("alexnet", models.AlexNet_Weights), ("vgg16", models.VGG16_Weights)):
        with torch.device("meta"):
            made = getattr(models, network)(weights=None)
        state = weights.IMAGENET1K_V1.get_state_dict(check_hash=True)
        assert {name: x.shape for name, x in state.items()} == {name: x.shape for name, x in made.state_dict().items()}
        for name, array in trunks[network].items():
            assert np.array_equal(state[name].numpy(), array)
    with pytest.raises(SystemExit, match=r"alexnet.npz: there is no array features.0.weight of shape \[64, 3, 11, 11\]"):
        lpips_trunks.write({"alexnet": {}}, tmp_path / "torch")
    with pytest.raises(SystemExit, match=r"alexnet.npz: no such file; it is to hold alexnet's convolutions"):
        lpips_trunks.read(tmp_path / "nowhere")


def test_the_users_folder_is_read_as_it_is(load: Callable[..., Any], scene: Path, blender_folder: Path) -> None:
    assert len(load("train")["images"]) == 12
    assert not (blender_folder / nerfbaselines_scene.NOTE).exists()
    assert (scene / nerfbaselines_scene.NOTE).is_file()

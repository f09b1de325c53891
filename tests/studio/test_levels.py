"""Levels of the hash grid that are settled from the training images belong to the run."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import yaml
from nerfstudio.data.scene_box import SceneBox

from ngp_method.method_configs import lite_config
from ngp_method.studio.model import InstantHashModel
from ngp_method.studio.trainer import InstantHashTrainer
from support import scenes

pytestmark = pytest.mark.usefixtures("clean_writers")


def test_levels_that_fit_the_images_are_those_of_the_run(tmp_path: Path) -> None:
    """Settled from the training cameras, written into config.yml, never settled anew: a checkpoint loads with any cameras."""
    scene = scenes.write_blender(tmp_path / "scene", train=8, test=2, size=(32, 32))
    config = copy.deepcopy(lite_config())
    config.data, config.output_dir, config.timestamp = scene, tmp_path, "run"
    config.vis, config.max_num_iterations = "tensorboard", 1
    assert config.pipeline.model.levels_fit_images
    config.save_config()
    path = config.get_base_dir() / "config.yml"
    assert yaml.load(path.read_text(), Loader=yaml.Loader).pipeline.model.finest_resolution is None
    trainer: InstantHashTrainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    grid = trainer.pipeline.model.field.network.encoding.layout
    assert 4 <= grid.n_levels < 12, "32 pixels do not resolve more"
    settled = yaml.load(path.read_text(), Loader=yaml.Loader).pipeline.model
    assert (settled.n_levels, settled.finest_resolution) == (grid.n_levels, grid.finest_resolution)
    settled.log2_hashmap_size = 17
    again = InstantHashModel(settled, scene_box=SceneBox(aabb=torch.zeros(2, 3)), num_train_data=1, metadata={})
    assert again.field.network.encoding.layout == grid

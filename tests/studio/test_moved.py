"""config.yml keeps paths that an editor can change, and a config that is loaded goes by where its run and scene are now."""

from __future__ import annotations

import copy
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from ngp_method.data.messages import forget_said
from ngp_method.errors import UserError
from ngp_method.method_configs import lite_config
from ngp_method.studio import moved
from ngp_method.studio.trainer_config import InstantHashTrainerConfig

NAMES = ("scene", "instant-hash-lite", "run")


def write(project: Path, steps: tuple[int, ...] = (9, 19), **changes: Any) -> Path:
    """A project with a scene and the folder of a run, as training leaves it; the config.yml."""
    scene = project / "data" / "scene"
    scene.mkdir(parents=True)
    config = lite_config()
    config.data, config.output_dir, config.timestamp = scene, project / "outputs", "run"
    for name, value in changes.items():
        setattr(config, name, value)
    config.make_paths_absolute()
    file = config.get_base_dir() / "config.yml"
    models = file.parent / "nerfstudio_models"
    models.mkdir(parents=True)
    file.write_text(yaml.dump(config), "utf8")
    for step in steps:
        (models / f"step-{step:09d}.ckpt").touch()
    return file


def read(file: Path, use: moved.Use = "run") -> InstantHashTrainerConfig:
    """The config as nerfstudio reads it for a command."""
    forget_said()
    config = yaml.load(file.read_text("utf8"), Loader=yaml.Loader)
    assert isinstance(config, InstantHashTrainerConfig)
    config.was_read(file, use)
    return config


def scenes_of(config: InstantHashTrainerConfig) -> set[Any]:
    manager: Any = config.pipeline.datamanager
    return {config.data, manager.data, manager.dataparser.data}


def add(file: Path, line: str) -> None:
    with file.open("a") as out:
        out.write(line + "\n")


def test_paths_are_written_as_text_and_the_scene_once(tmp_path: Path) -> None:
    file = write(tmp_path / "a b")
    lines = file.read_text("utf8").splitlines()
    assert f"data: {tmp_path / 'a b' / 'data' / 'scene'}" in lines
    assert f"output_dir: {tmp_path / 'a b' / 'outputs'}" in lines
    assert sum("data/scene" in line for line in lines) == 1
    config = yaml.load("\n".join(lines), Loader=yaml.Loader)
    assert scenes_of(config) == {tmp_path / "a b" / "data" / "scene"}
    assert config.output_dir == tmp_path / "a b" / "outputs"
    file.write_text(file.read_text("utf8").replace(f"data: {config.data}", "data: ~/elsewhere"), "utf8")
    assert scenes_of(yaml.load(file.read_text("utf8"), Loader=yaml.Loader)) == {Path.home() / "elsewhere"}


@pytest.mark.parametrize("way", [copy.deepcopy, lambda config: pickle.loads(pickle.dumps(config))])
def test_a_config_is_copied_as_it_is(tmp_path: Path, way: Any) -> None:
    config = lite_config()
    assert way(config) == config
    config.data = config.pipeline.datamanager.data = config.pipeline.datamanager.dataparser.data = tmp_path  # type: ignore[attr-defined]
    assert way(config) == config
    assert config.pipeline.datamanager.data == tmp_path  # writing it leaves it alone
    config.pipeline.datamanager.data = tmp_path / "other"
    config.data = None
    assert way(config) == config


def test_checkpoints_are_those_beside_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "old")
    assert read(file).get_checkpoint_dir() == file.parent / "nerfstudio_models"
    shutil.copytree(file.parent, tmp_path / "copy of the run")  # the first is still there
    there = read(tmp_path / "copy of the run" / "config.yml")
    assert there.get_checkpoint_dir() == tmp_path / "copy of the run" / "nerfstudio_models"
    assert there.get_base_dir() == tmp_path / "copy of the run"
    shutil.copy(file, tmp_path / "settings.yml")  # without checkpoints beside it
    assert read(tmp_path / "settings.yml").get_checkpoint_dir() == file.parent / "nerfstudio_models"
    shutil.rmtree(file.parent / "nerfstudio_models")
    with pytest.raises(UserError, match=r"no step-\*\.ckpt in it; put the run's checkpoints there"):
        read(tmp_path / "settings.yml").get_checkpoint_dir()


def test_paths_that_the_command_sees_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "project")
    monkeypatch.chdir(file.parent)
    assert read(Path("config.yml")).get_checkpoint_dir() == file.parent / "nerfstudio_models"
    monkeypatch.chdir(tmp_path)
    assert read(file.relative_to(tmp_path)).get_checkpoint_dir() == file.parent / "nerfstudio_models"


def test_a_project_that_moved_as_a_whole_finds_its_scene(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = write(tmp_path / "old")
    file = tmp_path / "new place" / old.relative_to(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new place")
    config = read(file)
    assert config.get_checkpoint_dir() == file.parent / "nerfstudio_models"
    assert scenes_of(config) == {tmp_path / "new place" / "data" / "scene"}
    assert f"{tmp_path / 'old/data/scene'} is not there any more; {tmp_path / 'new place/data/scene'} is taken." in (
        capsys.readouterr().out
    )


def test_a_scene_that_is_nowhere_is_one_sentence_and_its_mend_works(tmp_path: Path) -> None:
    file = write(tmp_path / "project")
    scene = tmp_path / "project" / "data" / "scene"
    scene.rename(tmp_path / "moved scene")
    with pytest.raises(UserError) as caught:
        read(file).get_checkpoint_dir()
    assert str(caught.value) == (
        f"The scene {scene} of the run {file} is not there; put it there, or say where it is by adding the line 'data: DIR' at "
        f"the end of {file}."
    )
    for line in (f"data: {tmp_path / 'moved scene'}", "data: ../../../../../moved scene"):
        add(file, line)
        config = read(file)
        config.get_checkpoint_dir()
        assert [path.resolve() for path in scenes_of(config)] == [tmp_path / "moved scene"]


def test_the_mend_works_in_files_of_before_paths_were_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moved, "state_of", lambda config: dict(vars(config)))
    file = write(tmp_path / "project")
    assert "\ndata: !!python/object/apply:pathlib.PosixPath\n" in file.read_text("utf8")
    monkeypatch.undo()
    assert scenes_of(read(file)) == {tmp_path / "project" / "data" / "scene"}
    (tmp_path / "project" / "data" / "scene").rename(tmp_path / "moved")
    add(file, f"data: {tmp_path / 'moved'}")
    config = read(file)
    config.get_checkpoint_dir()
    assert scenes_of(config) == {tmp_path / "moved"}


def test_a_folder_of_the_same_place_below_the_root_is_no_scene(tmp_path: Path) -> None:
    places = moved._places(Path("/data/scene"), Path("/runs/a/b/c"), Path("/home/x/y/config.yml"))
    assert places == [Path("/data/scene")]
    places = moved._places(Path("/old/data/scene"), Path("/old/runs/a/b/c"), Path("/new/runs/a/b/c/config.yml"))
    assert places[1:] == [Path("/new/data/scene")]


def test_the_demo_scene_of_another_installation(tmp_path: Path) -> None:
    file = write(tmp_path / "project")
    add(file, f"data: {tmp_path / 'gone/lib/ngp_method/demo/scene'}")
    config = read(file)
    config.get_checkpoint_dir()
    assert config.data is not None
    assert (config.data / "transforms_train.json").is_file()


def test_a_command_that_names_the_scene_itself(tmp_path: Path) -> None:
    """``ns-render dataset --data DIR`` gives it to the data manager, after the config was read."""
    file = write(tmp_path / "project")
    shutil.rmtree(tmp_path / "project" / "data")
    config = read(file)
    config.pipeline.datamanager.data = tmp_path
    config.get_checkpoint_dir()
    assert config.pipeline.datamanager.data == tmp_path


def test_which_checkpoint_is_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "project")
    for name in (".DS_Store", "._step-000000019.ckpt", "step-000000019 (1).ckpt"):  # nerfstudio takes each for a checkpoint's
        (file.parent / "nerfstudio_models" / name).touch()

    def step() -> int | None:
        config = read(file)
        config.get_checkpoint_dir()
        return config.load_step

    assert step() == 19
    add(file, "load_step: 9")
    assert step() == 9
    add(file, "load_step: 12")
    with pytest.raises(UserError, match=r"load_step is 12 in the run's config\.yml, and .* holds step 9, 19 only"):
        step()
    add(file, f"load_dir: {tmp_path / 'another run'}")
    assert step() == 19
    assert f"The run went on from step 12 of {tmp_path / 'another run'}, and its latest" in capsys.readouterr().out
    add(file, "load_dir: null\nload_step: 9")
    assert step() == 9


def test_settings_of_a_run_that_moved_are_for_a_run_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = write(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    file = tmp_path / "new" / old.relative_to(tmp_path / "old")
    config = read(file, "settings")
    assert config.get_base_dir() == file.parent  # which is spared when the new run is begun
    assert scenes_of(config) == {tmp_path / "new" / "data" / "scene"}
    file.parent.rename(tmp_path / "renamed")
    monkeypatch.chdir(tmp_path)
    add(tmp_path / "renamed" / "config.yml", f"data: {tmp_path}")
    config = read(tmp_path / "renamed" / "config.yml", "settings")
    assert config.get_base_dir() == tmp_path.joinpath("outputs", *NAMES)
    add(tmp_path / "renamed" / "config.yml", f"data: {tmp_path / 'nowhere'}")
    with pytest.raises(UserError, match="adding the line 'data: DIR'"):
        read(tmp_path / "renamed" / "config.yml", "settings")


def test_settings_of_a_run_that_went_on_from_one_that_moved(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    file = write(tmp_path / "project", load_dir=tmp_path / "first")
    (tmp_path / "first").rmdir()
    with pytest.raises(UserError, match=r"load_dir is .*first in .*, which is not there; .* 'load_dir: null' to begin anew"):
        read(file, "settings")
    read(file).get_checkpoint_dir()  # the run itself needs it no more
    add(file, "load_dir: null")
    assert read(file, "settings").load_dir is None

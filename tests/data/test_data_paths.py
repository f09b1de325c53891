"""Names in JSON files that lead nowhere as they stand: spelt by another system, converted, moved, or unclear."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ngp_method.data.auto import AutoDataParserConfig
from ngp_method.data.paths import find_files
from ngp_method.errors import UserError
from support import scenes


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(path)


def find(folder: Path, *names: str, key: str = "file_path") -> list[str | None]:
    found = find_files(folder / "transforms.json", names, key)
    return [None if path is None else str(path.relative_to(folder)) for path in found]


@pytest.mark.parametrize(
    ("written", "lies"),
    [
        ("./images/a.png", "images/a.png"),
        ("images/a", "images/a.png"),
        ("images\\a.png", "images/a.png"),
        (".\\images\\a", "images/a.png"),
        ("images/a.PNG", "images/a.png"),
        ("images/A.png", "images/a.PNG"),
        ("images/my%20room.png", "images/my room.png"),
        ("images/my room.png", "images/my room.png"),
        ("images/100%25.png", "images/100%25.png"),
        ("images/100%.png", "images/100%.png"),
        (unicodedata.normalize("NFD", "images/Küche.png"), unicodedata.normalize("NFC", "images/Küche.png")),
        (unicodedata.normalize("NFC", "images/Küche.png"), unicodedata.normalize("NFD", "images/Küche.png")),
        ("images/a.HEIC", "images/a.jpg"),
        ("images/a.dng", "images/a.png"),
        ("images/a.png", "images/a.jpg"),
        ("images/frame.0001", "images/frame.0001.png"),
    ],
)
def test_a_name_as_another_system_spells_it(written: str, lies: str, tmp_path: Path) -> None:
    put(tmp_path / lies, tmp_path / "images" / "other.png")
    assert find(tmp_path, "images/other.png", written) == ["images/other.png", lies]


@pytest.mark.parametrize(
    "written",
    [
        "/home/someone/scene/images/{}",
        "C:\\Users\\Some One\\scene\\images\\{}",
        "\\\\server\\share\\images\\{}",
        "file:///home/someone/my%20scene/images/{}",
        "images/{}",
        "../images/{}",
        "/{}",
    ],
)
@pytest.mark.parametrize("now", ["input", "images", "."])
def test_a_folder_that_moved(written: str, now: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["a.png", "b c.png"]
    put(*(tmp_path / now / name for name in names))
    found = find(tmp_path, *(written.format(name) for name in names))
    assert found == [str(Path(now, name)) for name in names]
    said = capsys.readouterr().out
    assert (written, now) == ("images/{}", "images") or (
        f"2 of 2 files that {tmp_path / 'transforms.json'} names as file_path are under another name or in another folder, as "
        f"{Path(now, 'a.png')} for {written.format('a.png')}."
    ) in said


def test_names_of_different_folders_are_told_apart(tmp_path: Path) -> None:
    put(tmp_path / "left" / "a.png", tmp_path / "right" / "a.png")
    assert find(tmp_path, "/old/right/a.png", "/old/left/a.png") == ["right/a.png", "left/a.png"]
    with pytest.raises(UserError, match=r'names "/old/a\.png" as file_path, which may be left/a\.png or right/a\.png'):
        find(tmp_path, "/old/a.png")


def test_one_file_is_not_two_frames(tmp_path: Path) -> None:
    put(tmp_path / "input" / "a.png")
    with pytest.raises(UserError, match=r'"left/a\.png" and "right/a\.png" as file_path.*input/a\.png is the only file'):
        find(tmp_path, "left/a.png", "right/a.png")
    assert find(tmp_path, "left/a.png", "left/a.png") == ["input/a.png"] * 2


def test_a_missing_picture_is_not_replaced_by_one_of_another_folder(tmp_path: Path) -> None:
    put(tmp_path / "images" / "a.png", tmp_path / "backup" / "b.png")
    assert find(tmp_path, "images/a.png", "images/b.png") == ["images/a.png", None]


@pytest.mark.parametrize(
    "other", ["masks", "sam_masks", "depth", "depth_maps", "normals", "images_2", "images_8", "val", ".cache"]
)
def test_folders_of_something_else_are_not_looked_into(other: str, tmp_path: Path) -> None:
    put(tmp_path / other / "a.png")
    assert find(tmp_path, "old/a.png") == [None]
    put(tmp_path / "rgb" / "a.png")
    assert find(tmp_path, "old/a.png") == ["rgb/a.png"]


@pytest.mark.parametrize("other", ["masks_of_me", "images_4", "test"])
def test_a_folder_that_the_name_has_is_looked_into(other: str, tmp_path: Path) -> None:
    put(tmp_path / "there" / other / "a.png")
    assert find(tmp_path, f"/old/{other}/a.png") == [f"there/{other}/a.png"]


def test_the_converted_copy_is_read_where_heic_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "images" / "a.jpg")
    (tmp_path / "images" / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "images" / "b.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    for written in ("images", "old"):
        monkeypatch.setattr("ngp_method.data.paths.reads_heif", lambda: False)
        assert find(tmp_path, f"{written}/a.HEIC", f"{written}/b.heic") == ["images/a.jpg", "images/b.HEIC"]
        monkeypatch.setattr("ngp_method.data.paths.reads_heif", lambda: True)
        assert find(tmp_path, f"{written}/a.HEIC") == ["images/a.HEIC"]


def test_two_conversions_are_not_chosen_from(tmp_path: Path) -> None:
    put(tmp_path / "images" / "a.jpg", tmp_path / "images" / "a.png")
    with pytest.raises(UserError, match=r"may be images/a\.jpg or images/a\.png; write the right one there"):
        find(tmp_path, "images/a.HEIC")


def edited(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    path = folder / "transforms.json"
    meta = json.loads(path.read_text())
    change(meta)
    path.write_text(json.dumps(meta))
    return folder


def test_masks_and_split_lists_of_another_machine(tmp_path: Path) -> None:
    def change(meta: dict[str, Any]) -> None:
        for index, frame in enumerate(meta["frames"]):
            name = Path(frame["file_path"]).name
            frame["file_path"] = f"D:\\scene\\images\\{name}"
            frame["mask_path"] = f"D:\\scene\\masks\\{name}"
            meta.setdefault("train_filenames" if index % 2 else "val_filenames", []).append(frame["file_path"])

    edited(scenes.write_nerfstudio(tmp_path, count=6), change)
    for index in range(6):
        path = tmp_path / "person_masks" / f"{index:04d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (48, 40), 255).save(path)
    (tmp_path / "images").rename(tmp_path / "input")
    for split, first in (("train", 1), ("val", 0)):
        outputs = AutoDataParserConfig(data=tmp_path).setup().get_dataparser_outputs(split)
        assert outputs.image_filenames == [tmp_path / "input" / f"{i:04d}.png" for i in range(first, 6, 2)]
        assert outputs.mask_filenames == [tmp_path / "person_masks" / f"{i:04d}.png" for i in range(first, 6, 2)]


def test_a_mask_is_never_the_picture_itself(tmp_path: Path) -> None:
    def change(meta: dict[str, Any]) -> None:
        for frame in meta["frames"]:
            frame["mask_path"] = "/old/masks/" + Path(frame["file_path"]).name

    edited(scenes.write_nerfstudio(tmp_path, count=3), change)
    with pytest.raises(UserError, match=r'frame "images/0000\.png" has mask_path /old/masks/0000\.png, which is not there'):
        AutoDataParserConfig(data=tmp_path).setup().get_dataparser_outputs()


def test_a_blender_scene_of_another_machine_keeps_its_splits_apart(tmp_path: Path) -> None:
    scenes.write_blender(tmp_path, train=3, val=0, test=2, size=(16, 16))
    for split in ("train", "test"):
        path = tmp_path / f"transforms_{split}.json"
        meta = json.loads(path.read_text())
        for frame in meta["frames"]:
            frame["file_path"] = f"C:\\lego\\{split}\\" + Path(frame["file_path"]).name
        path.write_text(json.dumps(meta))
    for split, count in (("train", 3), ("test", 2)):
        files = AutoDataParserConfig(data=tmp_path).setup().get_dataparser_outputs(split).image_filenames
        assert files == [tmp_path / split / f"r_{i}.png" for i in range(count)]

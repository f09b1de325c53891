"""Which of the six formats a folder holds, why, and its content as a capture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngp_method.data.capture import Capture, Kind, natural_key
from ngp_method.data.colmap import find_model, read_colmap
from ngp_method.data.llff import FILE as LLFF_FILE
from ngp_method.data.llff import find_llff, read_llff
from ngp_method.data.messages import say_once
from ngp_method.data.models import find_models, half_a_model
from ngp_method.data.multiscale import find_multiscale, has_scales, read_multiscale
from ngp_method.data.paths import find_files, spelling
from ngp_method.data.transforms import NGP_KEYS, Json, read_json, read_ngp_frame, read_views
from ngp_method.errors import fail

SPLITS = ("train", "val", "test")
BLENDER_FILES = tuple(f"transforms_{split}.json" for split in SPLITS)

NERFSTUDIO_KEYS = ("camera_model", "applied_transform", "orientation_override", "ply_file_path", "train_filenames")
"""Keys that nerfstudio alone reads."""

NOT_READ = {
    "cameras.npz": "IDR and NeuS",
    "cameras_sphere.npz": "IDR and NeuS",
    "cameras.json": "",  # of several programs, each in a way of its own
    "cameras.xml": "Metashape",
    "reconstruction.json": "OpenSfM",
    "bundle.out": "Bundler",
    "meta_data.json": "SDFStudio",
    "intrinsics.txt": "NSVF, with a folder pose",
}
"""Files that other programs keep poses in and that are not read here, and whose they are where only one can be meant."""


@dataclass
class Source:
    """What was recognised.

    Attributes:
        kind: the format.
        folder: that of the data.
        file: the transforms file, ``poses_bounds.npy``, or the COLMAP model's folder.
        why: what it was recognised by.
        more: further transforms files of the same scene (instant-ngp takes all that lie in a folder).
    """

    kind: Kind
    folder: Path
    file: Path
    why: str
    more: tuple[Path, ...] = ()


def detect(data: Path) -> Source:
    """Recognises the format of a folder, or of a transforms file or ``poses_bounds.npy``.

    Order: ``transforms.json``, ``transforms_train.json``, a COLMAP model, ``poses_bounds.npy`` unless there is any other
    ``transforms*.json``, which knows names and distortion. What else a folder holds of poses is said in one line.

    Raises:
        UserError: nothing there, or nothing known.
    """
    if str(data) in ("", "."):
        # pathlib turns a path not given into "."; nobody means the folder a command happens to run in
        names = ("transforms.json", "transforms_train.json", LLFF_FILE)
        if not any(Path(name).exists() for name in names) and not find_models(data):
            fail("No data given; name a folder of posed images with --data DIR.")
    elif not data.exists():
        fail(f"{data} does not exist; give the folder of a scene with --data DIR.")
    if data.is_file():
        return _named(data)
    source = _in_folder(data)
    _say_unused(source)
    return source


def _named(file: Path) -> Source:
    """A file that was named is taken, whatever lies beside it."""
    if file.suffix.casefold() == ".npy":
        return Source("llff", file.parent, file, f"{file.name} was named")
    if file.suffix != ".json":
        fail(f"{file} is neither a folder nor a .json file nor {LLFF_FILE}; give the folder of a scene with --data DIR.")
    if file.name in BLENDER_FILES and (file.parent / "transforms_train.json").is_file():
        return _blender(file.parent)
    return _classify(file)


def _in_folder(data: Path) -> Source:
    if (data / "transforms.json").is_file():
        return _classify(data / "transforms.json")
    if (data / "transforms_train.json").is_file():
        return _blender(data)
    scales = find_multiscale(data)
    if scales is not None:
        return _multiscale(scales)
    model = find_model(data)
    if model is not None:
        return Source("colmap", data, model, f"it has {model.relative_to(data)}")
    others = [_classify(path) for path in sorted(data.glob("transforms*.json"))]
    if len(others) == 1:
        return others[0]
    if others and all(other.kind == "instant-ngp" for other in others):
        files = tuple(other.file for other in others)
        return Source("instant-ngp", data, files[0], f"{len(files)} transforms files, {others[0].why}", files[1:])
    if others:
        names = " and ".join(other.file.name for other in others)
        return fail(f"{data} holds {names}; name one of them with --data FILE.")
    llff = find_llff(data)
    if llff is not None:
        return Source("llff", data, llff, f"it has {llff.name}")
    half = half_a_model(data)
    if half is not None:
        fail(half)
    there = _not_read_in(data)
    if there:
        fail(
            f"{data} holds poses in {', '.join(there)}, which is not read; write them as a transforms.json, or pose the images "
            "anew, e.g. with ns-process-data images."
        )
    return fail(
        f"{data} holds no transforms.json, transforms_train.json, {LLFF_FILE} or COLMAP model in sparse/0; give another folder "
        "with --data DIR, or pose the images first, e.g. with ns-process-data images."
    )


def _not_read_in(data: Path) -> list[str]:
    there = {spelling(path.name): path.name for path in data.iterdir() if path.is_file()}
    if not (data / "pose").is_dir():
        there.pop("intrinsics.txt", None)
    return [f"{there[name]} ({whose})" if whose else there[name] for name, whose in NOT_READ.items() if name in there]


def _say_unused(source: Source) -> None:
    """Says in one line what else of poses a folder holds; the splits of a Blender scene belong to what is taken."""
    data, used = source.folder, {source.file, *source.more}
    splits = {data / name for name in BLENDER_FILES if source.kind == "blender" or name != "transforms_train.json"}
    unused = [path.name for path in sorted(data.glob("transforms*.json")) if path not in used | splits]
    if source.kind != "colmap":  # of several models, the reader of COLMAP says which is taken
        unused += [f"the COLMAP model in {model.relative_to(data)}" for model in find_models(data)]
    llff = find_llff(data)
    if llff is not None and llff not in used:
        unused.append(llff.name)
    unused += _not_read_in(data)
    if unused:
        taken = "the COLMAP model" if source.kind == "colmap" else source.file.name
        say_once(f"{data} holds poses more than once; {taken} is taken, not used: {', '.join(unused)}.")


def _blender(folder: Path) -> Source:
    return Source("blender", folder, folder / "transforms_train.json", "it has transforms_train.json")


def _multiscale(file: Path) -> Source:
    return Source("multi-scale blender", file.parent, file, f"{file.name} has cameras of several scales")


def _classify(path: Path) -> Source:
    meta = read_json(path)
    if has_scales(meta):
        return _multiscale(path)
    ngp = [key for key in NGP_KEYS if key in meta]
    theirs = [key for key in NERFSTUDIO_KEYS if key in meta]
    if ngp and (not theirs or "aabb_scale" in ngp):
        return Source("instant-ngp", path.parent, path, f"{path.name} has {ngp[0]}")
    if theirs:
        return Source("nerfstudio", path.parent, path, f"{path.name} has {theirs[0]}")
    frames = meta.get("frames")
    first = frames[0] if isinstance(frames, list) and frames and isinstance(frames[0], dict) else {}
    if "fl_x" in meta or "fl_x" in first:
        return Source("nerfstudio", path.parent, path, f"{path.name} has fl_x and no aabb_scale")
    return Source("instant-ngp", path.parent, path, f"{path.name} gives angles of view and no fl_x")


def read_capture(source: Source) -> Capture:
    """Everything the files of a source say.

    Raises:
        UserError: bad input of any kind, in one sentence.
    """
    if source.kind == "colmap":
        return read_colmap(source.folder, source.file)
    if source.kind == "llff":
        return read_llff(source.file)
    if source.kind == "blender":
        return _read_blender(source.folder)
    if source.kind == "multi-scale blender":
        return read_multiscale(source.file)
    if source.kind == "instant-ngp":
        return _read_ngp((source.file, *source.more))
    meta = read_json(source.file)
    views = read_views(source.file, meta)
    views.sort(key=lambda view: view.image)  # nerfstudio's order, so that its eval images are ours
    capture = Capture("nerfstudio", source.file, views)
    capture.splits = _named_splits(source.file, meta, [view.image for view in views])
    if "applied_transform" in meta:
        capture.applied_transform = _matrix(meta["applied_transform"], source.file)
    capture.applied_scale = float(meta.get("applied_scale", 1.0))
    capture.orientation = meta.get("orientation_override")
    capture.fisheye_crop_radius = meta.get("fisheye_crop_radius")
    if "ply_file_path" in meta:
        capture.points = _read_ply(source.folder / str(meta["ply_file_path"]))
    return capture


def _read_ngp(files: Sequence[Path]) -> Capture:
    """instant-ngp's files; each has lenses of its own, the last to say so places them all (nerf_loader.cu)."""
    views = []
    merged: dict[str, Any] = {}
    for file in files:
        meta = read_json(file)
        frames = meta.get("frames")
        if isinstance(frames, list) and isinstance(meta.get("n_frames"), int):
            meta["frames"] = sorted(frames, key=lambda f: natural_key(str(f.get("file_path"))))[: meta["n_frames"]]
        views += sorted(read_views(file, meta), key=lambda view: natural_key(view.listed))
        merged |= {key: meta[key] for key in NGP_KEYS if key in meta}
    return Capture("instant-ngp", files[0], views, ngp=read_ngp_frame(files[-1], merged))


def _read_blender(folder: Path) -> Capture:
    """All splits of a Blender scene in one capture; one whose images are all missing counts as not there."""
    train = folder / "transforms_train.json"
    metas = {split: read_json(folder / f"transforms_{split}.json") for split in SPLITS if _has(folder, split)}
    capture = Capture("blender", train, [])
    splits: dict[str, Sequence[int]] = {}
    for split, meta in metas.items():
        path = folder / f"transforms_{split}.json"
        if split != "train" and not _any_image(path, meta):
            continue
        views = read_views(path, meta, "training on" if split == "train" else "evaluating on")
        splits[split] = range(len(capture.views), len(capture.views) + len(views))
        capture.views.extend(views)
    capture.splits = splits
    if any(key in metas["train"] for key in NGP_KEYS):
        capture.ngp = read_ngp_frame(train, metas["train"])
    return capture


def _has(folder: Path, split: str) -> bool:
    return (folder / f"transforms_{split}.json").is_file()


def _any_image(path: Path, meta: Json) -> bool:
    frames = meta.get("frames")
    if not isinstance(frames, list):
        return True  # read_views has the sentence for it
    names = [f.get("file_path") for f in frames if isinstance(f, dict)]
    return any(find_files(path, [name for name in names if isinstance(name, str)], "file_path"))


def _named_splits(path: Path, meta: Json, images: Sequence[Path]) -> dict[str, Sequence[int]]:
    """nerfstudio's ``train_filenames``, ``val_filenames``, ``test_filenames``."""
    splits: dict[str, Sequence[int]] = {}
    for split in SPLITS:
        names = meta.get(f"{split}_filenames")
        if names is not None:
            wanted = set(find_files(path, [str(name) for name in names], f"{split}_filenames"))
            splits[split] = [i for i, image in enumerate(images) if image in wanted]
    return splits


def _matrix(value: Any, path: Path) -> NDArray[np.float64]:
    matrix = np.asarray(value, dtype=np.float64)
    if matrix.shape not in ((3, 4), (4, 4)) or not np.isfinite(matrix).all():
        fail(f"{path}: applied_transform is no [3, 4] matrix; mend it or take it out.")
    return matrix[:3]


def _read_ply(path: Path) -> NDArray[np.float64]:
    """Positions of a point cloud, [M, 3]."""
    import trimesh  # slow to import, and few scenes have a point cloud

    try:
        cloud: Any = trimesh.load(path, process=False)
        vertices = np.asarray(cloud.vertices, dtype=np.float64)
    except (OSError, ValueError, AttributeError, KeyError, IndexError) as error:
        fail(f"{path}, the ply_file_path of the scene, cannot be read ({error}); put it there or take the key out.")
    return vertices.reshape(-1, 3)

"""Reads a COLMAP model and its images: views in nerfstudio's axes, and the sparse points.

Axes, image order and split lists are those of nerfstudio's ``colmap`` parser, so that both give the same cameras. Nothing is
written, and no question is asked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from nerfstudio.data.utils.colmap_parsing_utils import qvec2rotmat

from ngp_method.data.capture import Capture
from ngp_method.data.colmap_lenses import lens_of, read_lens_of
from ngp_method.data.masks import MASK_FOLDERS
from ngp_method.data.messages import say_once
from ngp_method.data.models import Camera, Image, find_models, homes_of, read_cameras, read_images, read_points, suffix_of
from ngp_method.data.pictures import Found, find_pictures, fit_to_pictures, say_copies, unposed
from ngp_method.data.views import View, check_focal, check_pose
from ngp_method.errors import fail

WORLD_TO_NERFSTUDIO = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, 0.0]])
"""COLMAP's guess of gravity is +y; nerfstudio's worlds have z up (its colmap parser does the same)."""


def find_model(data: Path) -> Path | None:
    """The folder of the COLMAP model that is read, or None: where there are several, the one with most pictures at hand.

    COLMAP writes one model for each part of the pictures that it could not join with the others.
    """
    models = find_models(data)
    if len(models) < 2:
        return models[0] if models else None
    listed = {model: [image.name for image in read_images(model)] for model in models}

    def worth(model: Path) -> tuple[bool, int, int]:
        readable = all(lens_of(camera) is not None for camera in read_cameras(model).values())
        at_hand = len(find_pictures(homes_of(data, model), listed[model]).files)
        return readable and at_hand > 0, at_hand, len(listed[model])

    largest = max(models, key=worth)
    others = ", ".join(f"{model.relative_to(data)} ({len(listed[model])} images)" for model in models if model != largest)
    say_once(
        f"{data} holds {len(models)} COLMAP models; {largest.relative_to(data)} with {len(listed[largest])} images is taken, "
        f"not used: {others}."
    )
    return largest


def read_colmap(data: Path, model: Path) -> Capture:
    """Everything a COLMAP folder says.

    Args:
        data: the scene's folder.
        model: holds cameras, images and points3D as ``.bin`` or ``.txt``; see :func:`find_model`.

    Raises:
        UserError: a broken model, a lens model nerfstudio has not, or no image.
    """
    images_file = model / f"images{suffix_of(model)}"
    cameras, listed = read_cameras(model), read_images(model)
    if not listed:
        fail(f"{images_file} lists no images; run COLMAP's mapper again.")
    posed = _posed(listed, images_file)
    homes = homes_of(data, model)
    found = find_pictures(homes, [image.name for image in listed])
    views = []
    for image in posed:
        if image.name in found.files:
            if image.camera_id not in cameras:
                fail(f'{images_file}: image "{image.name}" names camera {image.camera_id}, which the model has not.')
            views.append(_view(found.files[image.name], image, cameras[image.camera_id], images_file))
    if not views:
        _no_pictures(found, images_file, listed)
    _say_what_was_found(found, homes, images_file, posed)
    views = fit_to_pictures(views, model)
    points = read_points(model)
    return Capture(
        kind="colmap",
        file=model,
        views=_with_masks(views, found.root, homes),
        splits=_split_lists(data, views),
        points=None if points is None else points @ WORLD_TO_NERFSTUDIO[:, :3].T,
        applied_transform=WORLD_TO_NERFSTUDIO,
    )


def _posed(listed: Sequence[Image], images_file: Path) -> list[Image]:
    """The images that have a pose: some writers list the others with NaN or a quaternion of zeros."""
    posed = [i for i in listed if np.isfinite((*i.qvec, *i.tvec)).all() and np.linalg.norm(i.qvec) > 1e-6]
    if not posed:
        fail(f"None of the {len(listed)} images in {images_file} has a pose (NaN or zeros); run COLMAP's mapper again.")
    if len(posed) < len(listed):
        say_once(
            f"{len(listed) - len(posed)} of {len(listed)} images in {images_file} have no pose (NaN or a quaternion of zeros); "
            "they are left out."
        )
    return posed


def _no_pictures(found: Found, images_file: Path, listed: Sequence[Image]) -> None:
    first = listed[0].name
    if found.unclear:
        first = found.unclear[0]
        fail(
            f"None of the {len(listed)} images listed in {images_file} can be told: several files may be meant by "
            f'"{first}", or one by several names; put the images where {found.root / first} leads.'
        )
    fail(
        f"None of the {len(listed)} images listed in {images_file} is there, the first would be {found.root / first}; put the "
        "images there."
    )


def _say_what_was_found(found: Found, homes: Sequence[Path], images_file: Path, posed: Sequence[Image]) -> None:
    """One line each for what is missing, what was guessed, and what lies there without being used."""
    there = sum(image.name in found.files for image in posed)
    if there < len(posed):
        unclear = len(found.unclear)
        why = f" ({unclear} of them could mean several files, as {found.unclear[0]})" if unclear else ""
        say_once(
            f"{len(posed) - there} of {len(posed)} frames listed in {images_file} have no image{why}; training on the other "
            f"{there}."
        )
    if found.by_base_name:
        name = found.by_base_name[0]
        say_once(
            f"{len(found.by_base_name)} of {len(posed)} images listed in {images_file} were found by their base name, as "
            f"{name} at {found.files[name]}."
        )
    extra = unposed(found, homes)
    if extra:
        total = len(extra) + len(set(found.files.values()))
        say_once(
            f"{len(extra)} of {total} pictures in {found.root} are not in {images_file} and are not used, as {extra[0].name}."
        )
    say_copies(found.root, homes)


def _view(path: Path, image: Image, camera: Camera, images_file: Path) -> View:
    where = f'{images_file}: image "{image.name}"'
    if camera.width < 1 or camera.height < 1:
        fail(f"{where}: its camera's pictures are {camera.width}x{camera.height} pixels; export the model anew.")
    lens = read_lens_of(camera, where, images_file.parent)
    rotation = qvec2rotmat(np.asarray(image.qvec) / np.linalg.norm(image.qvec))
    pose = np.eye(4)
    pose[:3, :3] = rotation.T
    pose[:3, 3] = -rotation.T @ np.asarray(image.tvec)
    pose[:3, 1:3] *= -1.0  # OpenCV's camera axes -> OpenGL's
    pose[:3] = WORLD_TO_NERFSTUDIO @ pose
    checked = check_pose(pose, where)
    for focal in (lens.fx, lens.fy):
        check_focal(focal, where)
    return View(
        image=path,
        listed=image.name,
        pose=checked,
        lens=lens,
    )


def _with_masks(views: list[View], root: Path, homes: Sequence[Path]) -> list[View]:
    """The views with COLMAP's masks, ``masks/NAME.png`` for a picture NAME with its ending; black is what is hidden."""
    folders = [folder for home in homes for name in MASK_FOLDERS if (folder := home / name).is_dir()]
    if not folders:
        return views
    found = {folder: [_mask_of(view.image, root, folder) for view in views] for folder in folders}
    folder, masks = max(found.items(), key=lambda item: sum(mask is not None for mask in item[1]))
    count = sum(mask is not None for mask in masks)
    if count == 0:
        say_once(f"No file in {folder} is the mask of a picture (NAME.png for a picture NAME, its ending kept); not used.")
        return views
    without = f"; nothing is hidden in the {len(views) - count} pictures without one" if count < len(views) else ""
    say_once(
        f"Masks of {count} of {len(views)} pictures are read from {folder}: where they are black, pictures are neither trained "
        f"on nor evaluated{without}."
    )
    return [dataclasses.replace(view, mask=mask) for view, mask in zip(views, masks, strict=True)]


def _mask_of(image: Path, root: Path, folder: Path) -> Path | None:
    inside = image.relative_to(root) if image.is_relative_to(root) else Path(image.name)
    options = (folder / f"{inside}.png", (folder / inside).with_suffix(".png"), folder / inside)
    return next((path for path in options if path.is_file()), None)


def _split_lists(folder: Path, views: Sequence[View]) -> Mapping[str, Sequence[int]]:
    """``train_list.txt`` and its fellows: one image name a line, as nerfstudio's colmap parser reads them."""
    splits = {}
    for split, name in (("train", "train"), ("val", "val"), ("val", "validation"), ("test", "test")):
        path = folder / f"{name}_list.txt"
        if path.is_file():
            wanted = {line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()}
            splits[split] = [i for i, view in enumerate(views) if view.listed in wanted]
            unknown = wanted - {view.listed for view in views}
            if unknown:
                say_once(f"{len(unknown)} of {len(wanted)} names in {path} are of no image with a pose, as {min(unknown)}.")
    return splits

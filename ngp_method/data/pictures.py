"""The picture files that a model's names mean: in one of several folders, by another path, by base name, in another size.

Names are what the machine wrote them on that posed the images: with a folder of that machine before them, with its separators,
with the case or the ending the files had then. A file is taken by its base name only where nothing else can be meant.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ngp_method.data.messages import say_once
from ngp_method.data.paths import COPIES, common_tail, role_of, slashes, spelling
from ngp_method.data.views import View, same_shape
from ngp_method.errors import fail
from ngp_method.pictures.opening import is_picture, read_header

IMAGE_FOLDERS = ("images", "input", "rgb", "image", ".")

_NO_PICTURES = {"sparse", "database"}
"""Folders of COLMAP's own files."""


@dataclass
class Found:
    """Where the pictures are.

    Attributes:
        files: the file of each listed name that has one.
        root: the folder that most of them are in; the first one tried where none is there.
        by_base_name: names whose file was found under another path, or with another ending.
        unclear: names for which several files could be meant, or whose file several names could mean.
    """

    files: dict[str, Path]
    root: Path
    by_base_name: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)


def find_pictures(homes: Sequence[Path], names: Sequence[str]) -> Found:
    """Finds the files of listed names.

    Args:
        homes: folders that hold a folder of images each (:data:`IMAGE_FOLDERS`, or else smaller copies), or the images.
        names: as a model lists them.
    """
    roots = [home / name for home in homes for name in IMAGE_FOLDERS]
    roots += [home / name for home in homes for name in copies_in(home)]
    wanted = {spelling(PurePosixPath(slashes(name)).name) for name in names}

    def worth(root: Path) -> tuple[int, int]:
        exact = sum(_exact(root, name) is not None for name in names)
        return exact, 0 if exact == len(names) else len(wanted & _keys_in(root))

    root = max((root for root in roots if root.is_dir()), key=worth, default=roots[0])
    files = {name: path for name in names if (path := _exact(root, name)) is not None}
    found = Found(files, root)
    if len(files) < len(names):
        _by_base_name(found, homes, [name for name in names if name not in files])
    return found


def copies_in(home: Path) -> list[str]:
    """Names of the folders of smaller copies in a folder, the largest pictures first."""
    numbers = [(int(match[1]), path.name) for path in home.glob("image*_*") if (match := COPIES.fullmatch(path.name))]
    return [name for _, name in sorted(numbers)]


def say_copies(root: Path, homes: Sequence[Path]) -> None:
    """Says in one line which folders of smaller copies are not used, the pictures being those of ``root``."""
    copies = [name for home in homes for name in copies_in(home) if home / name != root]
    if copies:
        say_once(
            f"Not used: the copies of {root} in {', '.join(copies)}; auto-data --downscale-factor makes pictures smaller "
            "as they are loaded."
        )


def _exact(root: Path, name: str) -> Path | None:
    return next((path for path in (root / name, root / slashes(name)) if path.is_file()), None)


def _keys_in(root: Path) -> set[str]:
    return {spelling(name) for name in os.listdir(root)}


def _walk(top: Path, keep: Path) -> Iterator[Path]:
    """The files below a folder, those of masks, depths and smaller copies left out, but all of ``keep``."""
    for folder, inside, files in os.walk(top):
        here = Path(folder)
        inside[:] = sorted(name for name in inside if keep.is_relative_to(here / name) or not _holds_others(name))
        yield from (here / name for name in sorted(files))


def _holds_others(folder: str) -> bool:
    return bool(folder.startswith(".") or folder in _NO_PICTURES or role_of(folder) or COPIES.fullmatch(folder))


def _by_base_name(found: Found, homes: Sequence[Path], missing: Sequence[str]) -> None:
    """Adds the files that names not found can only mean."""
    index: dict[str, list[Path]] = defaultdict(list)
    stems: dict[str, list[Path]] = defaultdict(list)
    for path in dict.fromkeys(path for home in homes for path in _walk(home, found.root)):
        index[spelling(path.name)].append(path)
        if is_picture(path):
            stems[spelling(path.stem)].append(path)
    guesses: dict[str, Path] = {}
    for name in missing:
        listed = PurePosixPath(slashes(name))
        options = index.get(spelling(listed.name)) or stems.get(spelling(listed.stem)) or []
        alike = [common_tail(path.parts, listed.parts) for path in options]
        options = [path for path, count in zip(options, alike, strict=True) if count == max(alike)]
        if len(options) > 1:
            options = [path for path in options if path.is_relative_to(found.root)] or options
        if len(options) == 1:
            guesses[name] = options[0]
        elif options:
            found.unclear.append(name)
    claims = Counter([*guesses.values(), *found.files.values()])
    for name, path in guesses.items():
        if claims[path] == 1:
            found.files[name] = path
            found.by_base_name.append(name)
        else:
            found.unclear.append(name)


def unposed(found: Found, homes: Sequence[Path]) -> list[Path]:
    """Pictures in the folder of images that no listed name means."""
    used = set(found.files.values())
    if not found.root.is_dir():
        return []
    if found.root.resolve() in {home.resolve() for home in homes}:  # other folders of the scene lie in it, too
        paths: Iterator[Path] = (path for path in sorted(found.root.iterdir()) if path.is_file())
    else:
        paths = _walk(found.root, found.root)
    return [path for path in paths if path not in used and is_picture(path)]


def fit_to_pictures(views: Sequence[View], stated_in: Path) -> list[View]:
    """The views with sizes and intrinsics of the picture files, which may be smaller copies of those that were posed.

    Both axes must shrink alike to a pixel. A picture that lies on its side beside the stated size is left as it is, for who
    reads it to decide by the camera's own mark.

    Args:
        views: with the sizes that their file states.
        stated_in: that file, for messages.

    Raises:
        UserError: a picture of another shape.
    """
    fitted, changed = [], 0
    for view in views:
        (width, height), stated = read_header(view.image).size, f"{view.lens.width}x{view.lens.height}"
        if (width, height) in (view.lens.size, view.lens.size[::-1]):
            fitted.append(view)
            continue
        if not same_shape((width, height), view.lens.size):
            fail(
                f"{view.image} is {width}x{height} pixels, but {stated_in} says {stated}, which has another "
                "shape; put the pictures there that were posed, or copies of them scaled alike in both directions."
            )
        fitted.append(dataclasses.replace(view, lens=view.lens.resized((width, height))))
        if not changed:
            first = f"{view.image} is {width}x{height}, not {stated}"
        changed += 1
    if changed:
        say_once(
            f"{changed} of {len(views)} pictures have another size than {stated_in} says (the first, {first}); focal lengths "
            "and centres are scaled to the pictures."
        )
    return fitted

"""Names in a scene's JSON -> files: written on another machine, with another separator, ending or case, or moved since.

A name is first looked for where it says, spelt as people's systems spell it. Where none of the names is found so, the folder
was renamed or came from elsewhere, and the files are looked for by their names beneath the folder of the JSON file. Where some
are found, the others are missing: a file of the same name somewhere else is then another picture as likely as not.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from ngp_method.data.messages import say_once
from ngp_method.errors import fail
from ngp_method.pictures.opening import IMAGE_SUFFIXES, PICTURE_ENDINGS, reads_heif

HEIF_SUFFIXES = (".heic", ".heif")

SPLITS = {"train", "val", "test"}
"""Folders of splits, in which Blender scenes have different pictures of the same names."""

COPIES = re.compile(r"(?:images?|masks?|depths?)_(\d+)", re.IGNORECASE)
"""Folders of smaller copies, as nerfstudio's, COLMAP's and mip-NeRF 360's scenes have them: images_2, images_4, images_8."""

_ROLES = re.compile(r"(?<![a-z])(mask|depth|normal|semantic|segment)", re.IGNORECASE)

_ENDINGS = tuple(dict.fromkeys(suffix.casefold() for suffix in IMAGE_SUFFIXES))


def find_files(
    file: Path, names: Sequence[str], key: str, taken: Collection[Path] = (), needed: bool = True
) -> list[Path | None]:
    """The files that the entries of a JSON file name; what was not where it says is counted in one line.

    Args:
        file: the JSON file; names are relative to its folder.
        names: as written there, with or without an ending.
        key: what they stand under, for messages; ``file_path`` and ``*_filenames`` name pictures.
        taken: files that are something else, and are not looked at where a folder was moved.
        needed: whether a name that several files may be meant by ends the command; else it counts as not found.

    Returns:
        a file for each name, or None where there is none.

    Raises:
        UserError: several files might be meant.
    """
    search = _Search(file, key, set(taken), needed)
    found = [search.where_it_says(name) for name in names]
    if not any(found):
        found = [search.moved(name) for name in names]
        _all_different(list(zip(names, found)), file, key)
    other = [
        (name, path) for name, path in zip(names, found) if path is not None and not _same(file.parent / slashes(name), path)
    ]
    if other:
        name, path = other[0]
        say_once(
            f"{len(other)} of {len(names)} files that {file} names as {key} are under another name or in another folder, as "
            f"{_shown(path, file)} for {name}."
        )
    return found


class _Search:
    """Looks for the names of one key of one file; listings are read once.

    Args:
        file: the JSON file.
        key: what the names stand under.
        taken: files that are something else.
        needed: whether to end the command where several files may be meant.
    """

    def __init__(self, file: Path, key: str, taken: set[Path], needed: bool) -> None:
        self.file, self.folder, self.key, self.taken, self.needed = file, file.parent, key, taken, needed
        self.pictures = key == "file_path" or key.endswith("_filenames")
        self._listings: dict[Path, Mapping[str, list[Path]]] = {}
        self._beneath: Mapping[str, list[Path]] | None = None

    def where_it_says(self, name: str) -> Path | None:
        for spelt in dict.fromkeys((name, slashes(name), unquote(slashes(name)))):
            path = self.folder / spelt
            if path.is_file() and self._readable(path):
                return path
            for suffix in IMAGE_SUFFIXES:
                if path.name and (candidate := path.with_name(path.name + suffix)).is_file():
                    return candidate
        path = self.folder / slashes(name)
        if path.parent not in self._listings:
            self._listings[path.parent] = _by_spelling(path.parent)
        return self._one(self._meant(self._listings[path.parent], path.name), path.name)

    def moved(self, name: str) -> Path | None:
        """Beneath the folder of the JSON file: that with the name's last parts, the more of them the better."""
        parts = [spelling(part) for part in PurePosixPath(unquote(slashes(name))).parts]
        if self._beneath is None:
            self._beneath = _by_spelling(self.folder, deep=True)
        there = self._meant(self._beneath, parts[-1], parts[:-1])
        common = [common_tail([spelling(part) for part in path.parts], parts) for path in there]
        return self._one([path for path, alike in zip(there, common) if alike == max(common)], name)

    def _meant(self, listing: Mapping[str, list[Path]], name: str, folders: Sequence[str] | None = None) -> list[Path]:
        """The files of a listing that a name may mean: in another case or Unicode form, or a picture that was converted.

        Args:
            listing: files by how they are spelt.
            name: without folders.
            folders: those the name was written with; None where the files need not be of its kind.
        """
        spelt = spelling(name)
        ended = Path(spelt).suffix in PICTURE_ENDINGS
        groups = [[spelt] if ended else [spelt, *(spelt + ending for ending in _ENDINGS)]]
        if ended and self.pictures:
            groups.append([Path(spelt).stem + ending for ending in _ENDINGS])
        last: list[Path] = []
        for group in groups:
            there = [path for one in group for path in listing.get(one, ())]
            there = [path for path in there if folders is None or self._may_be(path, folders)]
            if readable := [path for path in there if self._readable(path)]:
                return readable
            last = last or there
        return last

    def _readable(self, path: Path) -> bool:
        """Whether a picture, by its ending, is of a kind that can be read here: where it was converted, the copy is."""
        return not self.pictures or path.suffix.casefold() not in HEIF_SUFFIXES or reads_heif()

    def _may_be(self, path: Path, wanted: Sequence[str]) -> bool:
        """Whether a file is of the kind that is looked for, as far as the names of its folders tell."""
        if path in self.taken:
            return False
        folders = [spelling(part) for part in path.relative_to(self.folder).parts[:-1]]
        if any((part in SPLITS or COPIES.fullmatch(part)) and part not in wanted for part in folders):
            return False
        roles = {role_of(part) for part in wanted}
        return not self.pictures or all(role_of(part) in (None, *roles) for part in folders)

    def _one(self, there: Sequence[Path], name: str) -> Path | None:
        if len(there) > 1 and self.needed:
            both = " or ".join(_shown(path, self.file) for path in sorted(there)[:2])
            fail(
                f'{self.file} names "{name}" as {self.key}, which may be {both}; write the right one there, or move the other '
                "out of the folder."
            )
        return there[0] if len(there) == 1 else None


def role_of(folder: str) -> str | None:
    """What the files of a folder are beside pictures of the same names, if its name says so: mask, depth, normal ..."""
    found = _ROLES.search(folder)
    return found[1].casefold() if found else None


def slashes(name: str) -> str:
    """A name with the separators of this system, whichever system wrote it."""
    return name.replace("\\", "/")


def spelling(name: str) -> str:
    """A file's name without what file systems change in it: macOS decomposes letters, Windows does not tell case."""
    return unicodedata.normalize("NFC", name).casefold()


def _by_spelling(folder: Path, deep: bool = False) -> Mapping[str, list[Path]]:
    """Files of a folder by how their names are spelt; ``deep``: of the folders in it too, hidden ones left out."""
    listing: dict[str, list[Path]] = defaultdict(list)
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if deep and not name.startswith(".")]
        for name in files:
            listing[spelling(name)].append(Path(root) / name)
    return listing


def common_tail(first: Sequence[str], second: Sequence[str]) -> int:
    """How many of the last parts of two paths are spelt the same; the names, which may differ in ending, count as one."""
    pairs = zip(reversed(first[:-1]), reversed(second[:-1]), strict=False)
    return next((i for i, (a, b) in enumerate(pairs, 1) if spelling(a) != spelling(b)), min(len(first), len(second)))


def _same(listed: Path, path: Path) -> bool:
    """Whether a file is where it was said to be; an ending left out by the writer counts as said."""
    return path == listed or (path.parent == listed.parent and path.name in {listed.name + s for s in IMAGE_SUFFIXES})


def _shown(path: Path, file: Path) -> str:
    return str(path.relative_to(file.parent)) if path.is_relative_to(file.parent) else str(path)


def _all_different(found: Sequence[tuple[str, Path | None]], file: Path, key: str) -> None:
    """A file that was looked for by its name stands for one entry only."""
    first: dict[Path, str] = {}
    for name, path in found:
        if path is not None and first.setdefault(path, name) != name and key == "file_path":
            fail(
                f'{file} names "{first[path]}" and "{name}" as {key}, and {_shown(path, file)} is the only file of that name; '
                "put the files where they are named, or mend the names."
            )

"""Pixels decoded once: into memory, or into a file that is mapped and found again by the next start."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ngp_method.errors import fail
from ngp_method.pictures.picture import guarded
from ngp_method.pictures.stored import Stored

Progress = Callable[[float], object]
"""Told the share that is done, from 0 to 1."""

_SPARE = 64 << 20
"""Bytes that are left free on a disk."""


def default_cache_dir() -> Path:
    """Where decoded pictures lie: $XDG_CACHE_HOME/instant-hash/pictures, else the same in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "instant-hash" / "pictures"


def default_budget() -> int:
    """Bytes a decoded picture may take in memory: a quarter of what is free, 1 GB at most."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    for name, pattern in (("/proc/meminfo", r"MemAvailable:\s+(\d+) kB"), ("/sys/fs/cgroup/memory.max", r"^(\d+)$")):
        try:
            found = re.search(pattern, Path(name).read_text(), re.MULTILINE)
        except OSError:
            continue
        if found:
            number = int(found[1])
            free = number * 1024 if "meminfo" in name else min(free, number - _used_by_group())
    return max(0, min(1 << 30, free // 4))


def _used_by_group() -> int:
    try:
        return int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):
        return 0


def decode(stored: Stored, cache_dir: Path, budget_bytes: int, progress: Progress | None) -> npt.NDArray[Any]:
    """The pixels of a file, as they are stored: mapped in place, in memory, or mapped from a file in ``cache_dir``.

    Returns:
        [height, width, channels] of the file's dtype, not yet turned upright.

    Raises:
        UserError: the file is broken, has samples that are not finite, or the disk is too small for it.
    """
    if stored.mapped is not None:
        if stored.linear_light:
            _check_finite(stored, _slices(stored.mapped), progress)
        return stored.mapped
    if stored.n_bytes <= budget_bytes:
        flat = np.empty(_flat_shape(stored), stored.dtype)
        row = 0
        for rows in _told(stored, progress):
            flat[row : row + len(rows)] = rows
            row += len(rows)
        return _pixels(flat, stored)
    target = _cache_file(stored, cache_dir)
    if not target.is_file():
        _write(stored, target, progress)
    return _pixels(np.load(target, mmap_mode="r"), stored)


def _flat_shape(stored: Stored) -> tuple[int, int, int]:
    """Shape of what ``stripes`` gives one below the other."""
    height, width, channels = stored.shape
    return (channels * height, width, 1) if stored.planar else stored.shape


def _pixels(flat: npt.NDArray[Any], stored: Stored) -> npt.NDArray[Any]:
    height, width, channels = stored.shape
    return np.moveaxis(flat.reshape(channels, height, width), 0, -1) if stored.planar else flat


def _slices(pixels: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    for top in range(0, len(pixels), 64):
        yield pixels[top : top + 64]


def _told(stored: Stored, progress: Progress | None) -> Iterator[npt.NDArray[Any]]:
    """The stripes, checked and counted; one sentence where they end too early."""
    done, total = 0, _flat_shape(stored)[0]
    for rows in _check_each(stored, guarded(stored.path, stored.stripes())):
        done += len(rows)
        yield rows
        if progress is not None:
            progress(done / total)
    if done != total:
        fail(f"{stored.path} is cut short ({done} of {total} rows); give the whole file.")


def _check_finite(stored: Stored, stripes: Iterator[npt.NDArray[Any]], progress: Progress | None) -> None:
    done = 0
    for rows in _check_each(stored, stripes):
        done += len(rows)
        if progress is not None:
            progress(done / stored.height)


def _check_each(stored: Stored, stripes: Iterator[npt.NDArray[Any]]) -> Iterator[npt.NDArray[Any]]:
    """The stripes; all are looked through before samples that are not finite are refused, so that they are counted."""
    top, bad, first = 0, 0, (0, 0)
    for rows in stripes:
        if stored.linear_light and not (finite := np.isfinite(rows)).all():
            where = np.argwhere(~finite.all(-1))
            if not bad:
                first = ((top + int(where[0, 0])) % stored.height, int(where[0, 1]))
            bad += len(where)
        top += len(rows)
        yield rows
    if bad:
        fail(
            f"{stored.path} has {bad} pixels that are NaN or infinite, the first in row {first[0]}, column {first[1]}; "
            "replace them by numbers."
        )


def _cache_file(stored: Stored, cache_dir: Path) -> Path:
    """The name says which file, and which state of it."""
    path, state = stored.path.resolve(), stored.path.stat()
    place = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    described = f"{state.st_size} {state.st_mtime_ns} {stored.shape} {stored.dtype} {stored.planar}"
    return cache_dir / f"{place}-{hashlib.sha256(described.encode()).hexdigest()[:16]}.npy"


def _write(stored: Stored, target: Path, progress: Progress | None) -> None:
    """Decodes into a file beside ``target``, which takes that name when it is whole; older states are removed."""
    size = f"{stored.path} takes {stored.n_bytes / 1e9:.1f} GB decoded"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        free = shutil.disk_usage(target.parent).free
        if free < stored.n_bytes + _SPARE:
            fail(f"{size}, and {target.parent} has {free / 1e9:.1f} GB free; give a cache folder on a larger disk.")
        with _part_of(target) as file:
            header = {"descr": np.lib.format.dtype_to_descr(stored.dtype), "fortran_order": False}
            np.lib.format.write_array_header_1_0(file, {**header, "shape": _flat_shape(stored)})
            for rows in _told(stored, progress):
                file.write(np.ascontiguousarray(rows).data)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            fail(f"{size}, and the disk of {target.parent} is full; give a cache folder on a larger disk.")
        fail(f"{size}, and {target.parent} cannot be written to ({error.strerror}); give another cache folder.")


@contextmanager
def _part_of(target: Path) -> Iterator[BinaryIO]:
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _sweep(target: Path) -> None:
    """Removes older states of the same file, and what processes left that are no more."""
    for old in target.parent.glob(target.name.split("-")[0] + "-*"):
        if old.suffix == ".part" and Path(f"/proc/{old.suffixes[-2][1:]}").exists():
            continue
        if old != target:
            old.unlink(missing_ok=True)

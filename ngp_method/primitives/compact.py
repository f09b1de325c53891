"""A trained function alone in a file: half-precision numbers and what they are numbers of, without optimiser, averages or run.

The file is an ``.npz`` of numpy: ``about`` (JSON, UTF-8 bytes) and one float16 array for each trained vector, in tiny-cuda-nn's
order, whatever the ending of its name.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import UserError, fail
from ..fields.encodings import EncodingSettings, build_encoding
from ..fields.function import FunctionNetwork
from ..kernels import Kernels

FORMAT = "instant-hash function 1"
"""First of what a reader looks at; counted up when an older reader would misread a newer file."""


def write_compact(
    path: Path, network: FunctionNetwork, encoding: str, settings: EncodingSettings, about: Mapping[str, Any]
) -> int:
    """Writes a function's current parameters, whole or not at all.

    Args:
        path: the file.
        network: in evaluation, so that its averages are written where it has any.
        encoding, settings: what its encoding was built from.
        about: plain values to be kept with it.

    Returns:
        Bytes of the file.

    Raises:
        UserError: it cannot be written, or a number is too large for half precision.
    """
    layout = network.mlp_layout
    with np.errstate(over="ignore"):  # looked at below
        numbers = {name: vector.detach().cpu().numpy().astype(np.float16) for name, vector in network.current().items()}
    if not all(np.isfinite(values).all() for values in numbers.values()):
        fail(f"{path} cannot be written: a parameter of the run is not finite in half precision; train it anew.")
    text = {
        "format": FORMAT,
        "encoding": encoding,
        "settings": asdict(settings),
        "mlp": {name: getattr(layout, name) for name in ("n_output_dims", "n_neurons", "n_hidden_layers")},
        **about,
    }
    half = path.with_name(f".{path.name}.{os.getpid()}.half")
    try:
        with half.open("wb") as file:
            np.savez(file, about=np.frombuffer(json.dumps(text).encode("utf8"), np.uint8), **numbers)
        os.replace(half, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}); give another place.") from None
    finally:
        half.unlink(missing_ok=True)
    return path.stat().st_size


def read_compact(path: Path, kernels: Kernels) -> tuple[FunctionNetwork, dict[str, Any]]:
    """The function of a file, in evaluation, and what was kept with it.

    Args:
        path: the file.
        kernels: what computes from now on.

    Raises:
        UserError: it is no such file, or cut short.
    """
    try:
        with np.load(path) as arrays:
            about = json.loads(arrays["about"].tobytes().decode("utf8"))
            numbers = {name: arrays[name] for name in arrays.files if name != "about"}
        if about.get("format") != FORMAT:
            fail(f"{path} is of another format ({about.get('format')}) than this version reads ({FORMAT}).")
        network = FunctionNetwork(
            build_encoding(about["encoding"], EncodingSettings(**about["settings"])), kernels, averaged=False, **about["mlp"]
        )
        for name, vector in network.vectors().items():
            vector.data.copy_(torch.from_numpy(numbers[name].astype(np.float32)))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; instant-hash-image --compact writes one.") from None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is no file of instant-hash-image --compact, or is cut short ({error}).") from None
    return network.eval(), about

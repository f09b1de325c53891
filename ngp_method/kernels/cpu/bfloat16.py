"""What multiplies in bfloat16 on this processor, and what the environment says of it.

Two *engines* can: AMX tiles (:mod:`.amx`) and dot products of pairs (:mod:`.bf16_dots`). Tiles are the faster. A processor
without either computes in float32, unless an emulation is asked for.
"""

from __future__ import annotations

import os

from . import amx, bf16_dots

SWITCH = "INSTANT_HASH_BFLOAT16"
"""Environment variable, read at import. ``off``: no bfloat16 on the processor, whatever it has. ``dots``: by dot products, also
where there are tiles. ``emulate``: the set ``cpu-bfloat16`` and both engines run everywhere, on an emulation of what is missing
(slow: for tests). Unset: as the machine is."""

_CHOICES = ("", "off", "dots", "emulate")


def _chosen() -> str:
    """What the environment asks for.

    Raises:
        ImportError: a word that is none of the choices.
    """
    word = os.environ.get(SWITCH, "")
    if word not in _CHOICES:
        choices = ", ".join(word for word in _CHOICES if word)
        raise ImportError(
            f"{SWITCH} is '{word}'; it may be one of {choices}, or unset: then bfloat16 is used where it is fast."
        )
    return word


_WORD = _chosen()

TILES = _WORD not in ("off", "dots") and amx.usable()
"""Whether the processor's own tiles may be used."""

DOTS = _WORD != "off" and bf16_dots.IN_PROCESSOR
"""Whether the processor's own dot products may be used."""

EMULATED = _WORD == "emulate"
"""Whether what is missing is emulated."""


def engines() -> list[str]:
    """Those that run in this process, ``tiles`` and ``dots``, the one to use first."""
    real = [name for name, there in (("tiles", TILES), ("dots", DOTS)) if there]
    return real + [name for name in ("dots", "tiles") if EMULATED and name not in real]


def describe(engine: str) -> str:
    """What an engine is, in a few words."""
    name, real = ("AMX tiles", TILES) if engine == "tiles" else ("AVX-512 dot products", DOTS)
    return name if real else f"emulated {name} (slow)"


def why_not() -> str:
    """Half a sentence: why there is no bfloat16 here."""
    if _WORD == "off":
        return f"{SWITCH} is off"
    return "this processor multiplies bfloat16 neither in AMX tiles nor by AVX-512 dot products"

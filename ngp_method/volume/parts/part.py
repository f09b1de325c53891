"""The seam: what an optional idea can change of the way from rays to losses, and the parts of one field taken together.

Rays are folded through every part's ``rays``, marched, shaded and composited; what they gathered is folded through every
part's ``colors`` and laid over the one ``background``; the loss is the sum of every part's ``losses`` and the field's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar, cast

from torch import Tensor, nn

from ..rays import Rays

if TYPE_CHECKING:
    from ..rendering import Rendered
    from ..tracing import Traced


T = TypeVar("T")


class Part(nn.Module):
    """One idea. ``training`` tells whether a hook is called in a training step or for a picture."""

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """What it trains, by the name of the optimiser's group."""
        return {}

    def rays(self, rays: Rays) -> Rays:
        """Rays as they are to be traced, of which there must be as many."""
        return rays

    def colors(self, rgbs: Tensor, rays: Rays) -> Tensor:
        """Premultiplied colours [R, 3] that rays have gathered, before they are laid over the background."""
        return rgbs

    def background(self, rays: Rays) -> Tensor | None:
        """Colour behind each ray, [R, 3]; None from a part that says nothing about it."""
        return None

    def losses(self, traced: Traced) -> dict[str, Tensor]:
        """Scalars that are added to the field's own loss, by name."""
        return {}

    def outputs(self, rendered: Rendered) -> dict[str, Tensor]:
        """Pictures beside colour and depth, by name: [R, C] each."""
        return {}

    def before(self, step: int) -> None:
        """Called before training step number ``step``, counted from 0."""

    def after(self, step: int) -> None:
        """Called after the optimisers have stepped."""


class Parts(nn.ModuleList):
    """The parts of a field in the order in which they are applied; the first that has a background gives it.

    Args:
        parts: at least one that has a background.
    """

    def __init__(self, parts: Iterable[Part]) -> None:
        super().__init__(parts)

    def __iter__(self) -> Iterator[Part]:
        """In their order."""
        return cast(Iterator[Part], super().__iter__())

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """All groups.

        Raises:
            ValueError: two parts give a group the same name.
        """
        return self._merged(part.groups() for part in self)

    def rays(self, rays: Rays) -> Rays:
        """Rays folded through every part."""
        for part in self:
            rays = part.rays(rays)
        return rays

    def colors(self, rgbs: Tensor, rays: Rays) -> Tensor:
        """Colours folded through every part."""
        for part in self:
            rgbs = part.colors(rgbs, rays)
        return rgbs

    def background(self, rays: Rays) -> Tensor:
        """Colour behind each ray, [R, 3].

        Raises:
            ValueError: no part has one.
        """
        for part in self:
            found: Tensor | None = part.background(rays)
            if found is not None:
                return found
        raise ValueError("No part of this field says what is behind the rays.")

    def losses(self, traced: Traced) -> dict[str, Tensor]:
        """All losses beside the field's own.

        Raises:
            ValueError: two parts give a loss the same name.
        """
        return self._merged(part.losses(traced) for part in self)

    def outputs(self, rendered: Rendered) -> dict[str, Tensor]:
        """All further pictures.

        Raises:
            ValueError: two parts give a picture the same name.
        """
        return self._merged(part.outputs(rendered) for part in self)

    def before(self, step: int) -> None:
        """Every part, in turn."""
        for part in self:
            part.before(step)

    def after(self, step: int) -> None:
        """Every part, in turn."""
        for part in self:
            part.after(step)

    @staticmethod
    def _merged(found: Iterable[dict[str, T]]) -> dict[str, T]:
        merged: dict[str, T] = {}
        for some in found:
            for name, value in some.items():
                if name in merged:
                    raise ValueError(f"Two parts of this field give something named '{name}'.")
                merged[name] = value
        return merged

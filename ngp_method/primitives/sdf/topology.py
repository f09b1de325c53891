"""Which faces meet at which edge, and pieces of one orientation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

Ints = npt.NDArray[np.int64]
_NOT_SEEN = np.int32(-1)


@dataclass(frozen=True)
class EdgePairs:
    """The edges of a mesh with F faces; edge k of a face goes from its corner k to the next.

    Attributes:
        opposite: int32 [F, 3], 3 * face + edge that an edge is shared with; -1 where not exactly two faces share it.
        closed: every edge is shared by exactly two faces.
        consistent: where two faces share an edge, they go along it in opposite directions.
        open_edges: edges that are not shared by exactly two faces.
    """

    opposite: npt.NDArray[np.int32]
    closed: bool
    consistent: bool
    open_edges: int


def edge_pairs(faces: Ints, n_vertices: int) -> EdgePairs:
    """The edges of faces int64 [F, 3]."""
    start, stop = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    keys = np.minimum(start, stop) * n_vertices + np.maximum(start, stop)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    first = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    counts = np.diff(np.r_[first, len(keys)])
    a = first[counts == 2]
    one, other = order[a], order[a + 1]
    opposite = np.full(faces.size, -1, np.int32)
    opposite[one], opposite[other] = other, one
    open_edges = int((counts != 2).sum())
    return EdgePairs(opposite.reshape(-1, 3), open_edges == 0, bool((start[one] == stop[other]).all()), open_edges)


@njit(nogil=True, cache=True, error_model="numpy")
def orient(faces, opposite, flip, piece):  # type: ignore[no-untyped-def]
    """Marks faces to be turned round so that neighbours agree; returns (number of pieces, whether they all agree).

    In each piece the smaller part is turned. A Moebius band does not agree whatever one turns.

    Args:
        faces: int64 [F, 3]; opposite: int32 [F, 3], see :class:`EdgePairs`.
        flip: bool [F], out.
        piece: int32 [F], out: number of the piece, whose faces hang together by edges.
    """
    queue = np.empty(faces.shape[0], np.int32)
    piece[:] = _NOT_SEEN
    flip[:] = False
    n_pieces, agree = 0, True
    for root in range(faces.shape[0]):
        if piece[root] != _NOT_SEEN:
            continue
        queue[0], piece[root] = root, n_pieces
        head, tail, turned = 0, 1, 0
        while head < tail:
            f = queue[head]
            head += 1
            for k in range(3):
                if opposite[f, k] < 0:
                    continue
                g, e = opposite[f, k] // 3, opposite[f, k] % 3
                against = faces[f, k] != faces[g, e]  # the two go along the edge in opposite directions, as they should
                wanted = flip[f] if against else not flip[f]
                if piece[g] == _NOT_SEEN:
                    piece[g], flip[g] = n_pieces, wanted
                    turned += wanted
                    queue[tail] = g
                    tail += 1
                elif flip[g] != wanted:
                    agree = False
        if 2 * turned > tail:
            for i in range(tail):
                flip[queue[i]] = not flip[queue[i]]
        n_pieces += 1
    return n_pieces, agree

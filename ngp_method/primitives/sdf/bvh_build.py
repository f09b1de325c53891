"""Building the tree of boxes: binned surface-area heuristic (Wald 2007), from the root down, into flat arrays.

A node is 64 bytes, one cache line, and holds the boxes of its two children, so that one look decides on both. Boxes are
float32, rounded outwards, and therefore contain what they should; triangles are tested in float64.
"""

from __future__ import annotations

import numpy as np
from numba import njit

LEAF = 4
"""Most triangles of a leaf. More make the tree smaller, fewer spare tests of triangles."""

BINS = 16
"""Places along an axis where a node may be divided."""

DEEPEST_SAH = 40
"""Below this depth nodes are halved by number, so that no arrangement of triangles makes a tree deeper than the stack."""

STACK = 80
"""Entries of a traversal's stack: DEEPEST_SAH, and halving of fewer than 2^31 triangles, with room to spare."""

WORDS = 16
"""4-byte words of a node: low and high corner of the left child's box, those of the right one's, the two children, two unused.
A child is a node's number; or, below zero, the complement of first * 8 + count: a leaf's first triangle and how many it has."""

FIRST_CHILD = 12
"""The word of a node that names its left child."""

LEAF_SHIFT = 3
LEAF_COUNT = (1 << LEAF_SHIFT) - 1

FAR = np.float32(3e38)
_AXES = 3


@njit(nogil=True, cache=True, error_model="numpy")
def _count_bins(boxes, begin, end, low, scale, counts, bin_boxes):  # type: ignore[no-untyped-def]
    """How many triangles of begin .. end - 1 have their centre in each bin of each axis, and the box around those."""
    counts[:] = 0
    bin_boxes[:, :, :3] = FAR
    bin_boxes[:, :, 3:] = -FAR
    for i in range(begin, end):
        for axis in range(_AXES):
            center = np.float32(0.5) * (boxes[i, axis] + boxes[i, axis + 3])
            b = min(int((center - low[axis]) * scale[axis]), BINS - 1)
            counts[axis, b] += 1
            for k in range(3):
                bin_boxes[axis, b, k] = min(bin_boxes[axis, b, k], boxes[i, k])
                bin_boxes[axis, b, k + 3] = max(bin_boxes[axis, b, k + 3], boxes[i, k + 3])


@njit(nogil=True, cache=True, error_model="numpy")
def _grow(box, other):  # type: ignore[no-untyped-def]
    for k in range(3):
        box[k] = min(box[k], other[k])
        box[k + 3] = max(box[k + 3], other[k + 3])


@njit(nogil=True, cache=True, error_model="numpy")
def _half_area(box):  # type: ignore[no-untyped-def]
    x, y, z = box[3] - box[0], box[4] - box[1], box[5] - box[2]
    return x * y + y * z + z * x


@njit(nogil=True, cache=True, error_model="numpy")
def _cheapest(counts, bin_boxes, scale, right_costs, box):  # type: ignore[no-untyped-def]
    """(axis, last bin of the left side) of least area times number; axis -1 if all centres share one bin."""
    best, best_axis, best_bin = np.float32(np.inf), -1, 0
    for axis in range(_AXES):
        if scale[axis] == 0:
            continue
        box[:3], box[3:] = FAR, -FAR
        n = 0
        for b in range(BINS - 1, 0, -1):
            n += counts[axis, b]
            _grow(box, bin_boxes[axis, b])
            right_costs[b] = _half_area(box) * n if n else np.float32(np.inf)
        box[:3], box[3:] = FAR, -FAR
        n = 0
        for b in range(BINS - 1):
            n += counts[axis, b]
            _grow(box, bin_boxes[axis, b])
            if n:
                cost = _half_area(box) * n + right_costs[b + 1]
                if cost < best:
                    best, best_axis, best_bin = cost, axis, b
    return best_axis, best_bin


@njit(nogil=True, cache=True, error_model="numpy")
def _partition(boxes, order, begin, end, axis, last, low, scale):  # type: ignore[no-untyped-def]
    """Moves those with a bin up to ``last`` to the front; returns the first of the others."""
    i, j = begin, end - 1
    while True:
        while i <= j and min(int((np.float32(0.5) * (boxes[i, axis] + boxes[i, axis + 3]) - low) * scale), BINS - 1) <= last:
            i += 1
        while i <= j and min(int((np.float32(0.5) * (boxes[j, axis] + boxes[j, axis + 3]) - low) * scale), BINS - 1) > last:
            j -= 1
        if i >= j:
            return i
        for k in range(6):
            boxes[i, k], boxes[j, k] = boxes[j, k], boxes[i, k]
        order[i], order[j] = order[j], order[i]


@njit(nogil=True, cache=True, error_model="numpy")
def _bounds(boxes, begin, end, box, low, high):  # type: ignore[no-untyped-def]
    """Box around triangles begin .. end - 1, and the lowest and highest of their centres."""
    box[:3], box[3:] = FAR, -FAR
    low[:], high[:] = FAR, -FAR
    for i in range(begin, end):
        _grow(box, boxes[i])
        for k in range(3):
            center = np.float32(0.5) * (boxes[i, k] + boxes[i, k + 3])
            low[k], high[k] = min(low[k], center), max(high[k], center)


@njit(nogil=True, cache=True, error_model="numpy")
def build(boxes, order, nodes, words, leaf):  # type: ignore[no-untyped-def]
    """Builds the tree; returns the number of its nodes.

    Args:
        boxes: float32 [F, 6] low and high corner of each triangle; brought into the tree's order.
        order: int32 [F], 0 .. F - 1 before, which triangle lies at each place of the tree's order after.
        nodes: float32 [F, WORDS], what a node is: see there; ``words``: the same memory as int32.
        leaf: most triangles of a leaf, at most 7.
    """
    low, high, scale = np.empty(3, np.float32), np.empty(3, np.float32), np.empty(3, np.float32)
    counts, bin_boxes = np.empty((_AXES, BINS), np.int32), np.empty((_AXES, BINS, 6), np.float32)
    right_costs, box = np.empty(BINS, np.float32), np.empty(6, np.float32)
    todo = np.empty((STACK * 2, 4), np.int32)  # begin, end, depth, word of the parent that is to name this node
    todo[0, 0], todo[0, 1], todo[0, 2], todo[0, 3] = 0, boxes.shape[0], 0, -1
    top, used = 1, 0
    while top:
        top -= 1
        begin, end, depth, named_by = todo[top, 0], todo[top, 1], todo[top, 2], todo[top, 3]
        node = used
        used += 1
        if named_by >= 0:
            words[named_by // WORDS, named_by % WORDS] = node
        _bounds(boxes, begin, end, box, low, high)
        middle = begin
        if end - begin > leaf and depth < DEEPEST_SAH:
            for k in range(3):
                extent = high[k] - low[k]
                scale[k] = np.float32(BINS) * np.float32(0.9999) / extent if extent > np.float32(1e-30) else np.float32(0)
            _count_bins(boxes, begin, end, low, scale, counts, bin_boxes)
            axis, last = _cheapest(counts, bin_boxes, scale, right_costs, box)
            if axis >= 0:
                middle = _partition(boxes, order, begin, end, axis, last, low[axis], scale[axis])
        if middle <= begin or middle >= end:
            middle = begin + (end - begin + 1) // 2  # all centres in one place, too deep, or the root of a few triangles
        for side in range(2):
            first, stop = (begin, middle) if side == 0 else (middle, end)
            _bounds(boxes, first, stop, box, low, high)
            nodes[node, 6 * side : 6 * side + 6] = box
            if stop - first <= leaf:
                words[node, FIRST_CHILD + side] = ~((first << LEAF_SHIFT) | (stop - first))
            else:
                todo[top, 0], todo[top, 1], todo[top, 2] = first, stop, depth + 1
                todo[top, 3] = node * WORDS + FIRST_CHILD + side
                top += 1
    return used


@njit(nogil=True, cache=True, error_model="numpy")
def triangle_boxes(vertices, faces, boxes):  # type: ignore[no-untyped-def]
    """Boxes of triangles, float32 [F, 6], rounded outwards, of vertices [V, 3] float64 and faces [F, 3]."""
    for f in range(faces.shape[0]):
        for k in range(3):
            a, b, c = vertices[faces[f, 0], k], vertices[faces[f, 1], k], vertices[faces[f, 2], k]
            boxes[f, k] = np.nextafter(np.float32(min(a, min(b, c))), -FAR)
            boxes[f, k + 3] = np.nextafter(np.float32(max(a, max(b, c))), FAR)


@njit(nogil=True, cache=True, error_model="numpy")
def gather_triangles(vertices, faces, order, triangles):  # type: ignore[no-untyped-def]
    """Corners of the triangles in the tree's order, float64 [F, 9]: a tested triangle is read from one place."""
    for i in range(order.shape[0]):
        for corner in range(3):
            v = faces[order[i], corner]
            for k in range(3):
                triangles[i, 3 * corner + k] = vertices[v, k]

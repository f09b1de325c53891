"""Signed distance functions: a field fitted to the distance from a triangle mesh, negative inside.

Meshes and what is asked of them (distance, sign, rays), the samples that a field is trained on, and the measures that it is
judged by belong here. Everything is in units of the unit cube that the mesh is placed in; ``mesh`` knows the way back.
"""

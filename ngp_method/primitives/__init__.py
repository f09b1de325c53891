"""Primitives: what else is a function of position beside a radiance field.

The same fields with another loss and another way to look at them: each kind has a room of its own, with where its targets
come from, which points are drawn, and how the result is measured and written. nerfstudio is not imported.
"""

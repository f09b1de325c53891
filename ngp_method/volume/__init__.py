"""Volume: which points are asked, and what a ray gathers from them.

The occupancy grid, a training step (``step``), rays in it (``tracing``) and in pictures (``rendering``), lenses, what the
cameras see and how many rays a step has belong here. nerfstudio is not imported, so that training runs where it is
not installed; of nerfacc the estimator under the occupancy grid alone.
"""

"""Functions of position as nerfstudio methods: pictures, and what else is trained on points instead of rays.

Here nerfstudio's trainer, viewer and commands get what they ask for: data managers, pipelines, models, cameras to look from.
What is trained and how it is looked at lies in ``primitives/``, which knows no nerfstudio.
"""

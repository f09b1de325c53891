"""Studio: everything that is nerfstudio's.

The model, field, pipeline, trainer, optimisers, schedulers and viewer as nerfstudio wants them, with the checkpoints, the
clean ends and the metrics around them, belong here. What could live without nerfstudio lies in the rooms below. Nothing is
imported here: a configuration loads what it names and no more.
"""

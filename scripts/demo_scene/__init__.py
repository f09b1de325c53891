"""What made the demo scene: a still life, its cameras and its path tracing; ``make_scene.py`` is the command."""

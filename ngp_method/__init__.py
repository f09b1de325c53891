"""instant-hash: Instant-NGP for nerfstudio, on any machine."""

__version__ = "0.1.0"

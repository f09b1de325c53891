"""What the benchmarks share: scenes, timing, checks, machines and reports."""

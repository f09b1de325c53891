"""Fields: what a point is.

Encodings of positions, the small networks behind them, what they say of density and colour, and the optimiser that trains
their vectors belong here: functions of points, which know no rays. Torch and the kernels are all that is needed.
"""

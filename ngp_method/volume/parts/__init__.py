"""Parts: optional ideas of a radiance field's training and pictures, each a small torch module in one file.

What a part may do is in ``part``: it has hooks, all of which do nothing unless it says otherwise. A part that is off is not
built: it costs nothing and leaves no key in a checkpoint.
"""

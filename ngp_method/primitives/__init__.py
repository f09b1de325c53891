"""Primitives: the same fields with another loss and another way to look at them.

What a field is fitted to where that is no set of posed pictures, how it is sampled, and how the result is looked at and
measured belong here, a room for each kind of thing. nerfstudio is not imported, so that all of it runs where it is not
installed.
"""

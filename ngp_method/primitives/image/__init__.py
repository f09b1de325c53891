"""Image: a picture of any size as a function of two coordinates.

The same fields with another loss and another way to look at them: where the pixels lie (``source``), which of them a batch
asks for (``points``), how far the function is from them (``measures``) and how it becomes a file again (``writer``). Nothing
here holds a whole picture as floats.
"""

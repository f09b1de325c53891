"""Pictures: files of pictures, whatever they are used for.

How a file is opened, what its header says, how its samples are decoded and how such a file is written belong here. It stands
on the ground floor: it knows neither nerfstudio nor fields, and the rooms above say what the samples mean to them.
"""

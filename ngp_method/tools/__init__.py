"""Tools: commands of our own.

What works on a trained run (mesh, turntable, report) or starts one from a file of settings (``train``) belongs here, each a
module with its command line. They stand on everything else, and nothing stands on them.
"""

"""Measurements of the yard on the machine at hand; each module is a command, `python -m benchmarks.NAME`.

They start real processes on a real Redis of their own and compare with what one would do otherwise, in
turns within one run: the ratio is the result, the absolute figures belong to the machine that is printed
with them. Nothing imports this package.
"""

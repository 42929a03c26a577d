"""Randomised experiments on pixels: the same image with and without one step of the workflow."""

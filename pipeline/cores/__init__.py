"""Fibre bundles: the pattern of their cores, measured once for a probe and removed from each frame."""

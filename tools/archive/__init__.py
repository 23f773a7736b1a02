"""Whole trees of recordings: resumed, on one machine or on a cluster."""

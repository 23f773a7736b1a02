"""The commands, and what only they need: training and evaluation."""

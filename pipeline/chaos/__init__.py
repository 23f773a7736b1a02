"""Faults on purpose, for tests and demonstrations: what may happen to a source, an engine, a sink or a disk."""

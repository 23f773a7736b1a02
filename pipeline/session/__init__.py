"""The session folder: a recording that proves itself (docs/session-format.md)."""

"""What a reader of one image says where it cannot."""


class UnreadableImage(Exception):
    """One image cannot be read; its text is the reason, in one line."""

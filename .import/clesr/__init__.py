"""clesr: live super-resolution for confocal laser endomicroscopy."""

__version__ = "0.1.0"

__all__ = ["__version__"]

"""clesr: live super-resolution for confocal laser endomicroscopy."""

from typing import TYPE_CHECKING

__all__ = ["__version__"]

__version__: str

if not TYPE_CHECKING:

    def __getattr__(name: str) -> str:
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import metadata  # slow to import, and seldom needed

        try:
            return metadata.version("clesr")  # a git tag, or the commits since
        except metadata.PackageNotFoundError:  # run from its folder without being installed
            return "0+unknown"

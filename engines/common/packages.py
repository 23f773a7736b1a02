"""Installed packages."""

from __future__ import annotations

from importlib import metadata


def version_of(package: str) -> str | None:
    """The version of ``package``; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def versions_of(packages: tuple[str, ...]) -> dict[str, str]:
    """The versions of those of ``packages`` that are installed."""
    return {name: version for name in packages if (version := version_of(name)) is not None}

"""The targets, by name. Each is loaded where it runs, so that cheap ones need no heavy libraries."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from fuzz.target import Target

TARGETS = {
    "mkt": "recordings.Mkt",
    "message": "message.Message",
    "manifest": "session.Manifest",
    "lines": "session.Lines",
    "session-video": "session.Video",
    "weights": "weights.Weights",
    "settings": "settings.SettingsFile",
    "patient": "patient.PatientFile",
    "ledger": "archive.ArchiveJournal",
    "finished": "archive.Finished",
    "video": "recordings.Video",
    "ffv1": "recordings.Ffv1",
    "jpeg": "images.Jpeg",
    "camera": "camera.Camera",
    "tiff": "images.Tiff",
    "images": "images.Images",
    "ome": "stacks.Ome",
    "animation": "stacks.Animated",
    "dicom": "stacks.Dicom",
    "strings": "strings.Strings",
    "cache": "cache.CacheFile",
    "orders": "orders.Orders",
    "page": "orders.PageMessages",
    "requests": "requests.HttpRequests",
    "scrapes": "requests.Scrapes",
    "cores": "cores.Cores",
    "documents": "documents.Documents",
    "web-archive": "archives.WebArchive",
    "association": "archives.Association",
}
CORPUS = Path(__file__).resolve().parents[1] / "corpus"


def load(name: str) -> type[Target]:
    """The class of the target ``name``, or the class at MODULE.NAME."""
    path = f"fuzz.targets.{TARGETS[name]}" if name in TARGETS else name
    module, _, kind = path.rpartition(".")
    found: type[Target] = getattr(import_module(module), kind)
    return found


def corpus(name: str) -> list[bytes]:
    """The inputs kept for the target ``name``: its seeds, and all that ever failed."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]

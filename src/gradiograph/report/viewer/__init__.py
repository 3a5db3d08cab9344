"""A local page to browse a run: films by leak, what was read back beside its controls. Nothing leaves the machine."""

from gradiograph.report.viewer.server import Viewer

__all__ = ["Viewer"]

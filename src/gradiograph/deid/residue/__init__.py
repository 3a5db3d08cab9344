"""The scan for identifiers that a de-identification left behind."""

from gradiograph.deid.residue.finding import Finding
from gradiograph.deid.residue.safe_harbor import LETTERS
from gradiograph.deid.residue.scan import Residue, files_of, scan

__all__ = ["LETTERS", "Finding", "Residue", "files_of", "scan"]

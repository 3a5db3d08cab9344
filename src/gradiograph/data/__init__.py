"""Sources of images as records with patients, labels and splits; the split and the sites, by patient."""

from gradiograph.data import folder, sites, splits

__all__ = ["folder", "sites", "splits"]

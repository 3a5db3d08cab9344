"""Sources of images as records with patients, labels and splits; the split and the sites, by patient."""

from gradiograph.data import folder, phantom, sites, splits

__all__ = ["folder", "phantom", "sites", "splits"]

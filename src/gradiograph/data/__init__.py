"""Sources of images as records with patients, labels and splits; the split and the sites, by patient."""

from gradiograph.data import decathlon, dicom, folder, medmnist, monai, nifti, phantom, sites, splits

__all__ = ["decathlon", "dicom", "folder", "medmnist", "monai", "nifti", "phantom", "sites", "splits"]

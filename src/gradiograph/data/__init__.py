"""Sources of images as records with patients, labels and splits; the split and the sites, by patient."""

from gradiograph.data import ct_phantom, decathlon, dicom, folder, medmnist, monai, nifti, phantom, sites, splits

__all__ = ["ct_phantom", "decathlon", "dicom", "folder", "medmnist", "monai", "nifti", "phantom", "sites", "splits"]

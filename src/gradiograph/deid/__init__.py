"""De-identification of medical images, the scan for what is left, and the synthetic identifiers that score both."""

from gradiograph.deid.folder import deidentify_folder
from gradiograph.deid.one import deidentify_dicom
from gradiograph.deid.options import Option, check_options, option_of
from gradiograph.deid.profile import EDITION, Profile
from gradiograph.deid.pseudonyms import Pseudonyms, read_key

__all__ = [
    "EDITION",
    "Option",
    "Profile",
    "Pseudonyms",
    "check_options",
    "deidentify_dicom",
    "deidentify_folder",
    "option_of",
    "read_key",
]

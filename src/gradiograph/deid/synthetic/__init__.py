"""Synthetic patients, their identifiers planted in medical files, and the answer key."""

from gradiograph.deid.synthetic.generate import generate
from gradiograph.deid.synthetic.key import IMAGES, AnswerKey, Patient, PlantedFile
from gradiograph.deid.synthetic.phrases import DATE_FORMATS

__all__ = ["DATE_FORMATS", "IMAGES", "AnswerKey", "Patient", "PlantedFile", "generate"]

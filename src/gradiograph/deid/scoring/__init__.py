"""The independent score of a de-identification; it does not read the de-identifier's code."""

from gradiograph.deid.scoring.reference import EDITION, action_of, reference_actions
from gradiograph.deid.scoring.score import Scores, describe, score

__all__ = ["EDITION", "Scores", "action_of", "describe", "reference_actions", "score"]

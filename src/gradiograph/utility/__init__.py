"""How useful a trained model is, from its predictions: measures, and intervals by patient. Runs without torch."""

from gradiograph.utility.estimates import REPLICATES, Estimate, estimate, estimate_loss
from gradiograph.utility.measures import MEASURES, Measure

__all__ = ["MEASURES", "REPLICATES", "Estimate", "Measure", "estimate", "estimate_loss"]

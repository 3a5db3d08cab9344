"""The audit: the spec, the grid, the controls, the run; the only room that wires the others together."""

from gradiograph.audit.captured import run_captured
from gradiograph.audit.catalogue import load_components
from gradiograph.audit.cost import Cost, estimate
from gradiograph.audit.epsilon import EpsilonAudit, audit_epsilon
from gradiograph.audit.films import open_data
from gradiograph.audit.generator import GeneratorQuality, train_generator
from gradiograph.audit.inputs import scan_inputs
from gradiograph.audit.inspection import inspect_weights
from gradiograph.audit.judge import JudgeQuality, train_judge
from gradiograph.audit.ledgers import ledgers
from gradiograph.audit.lint import lint_audit
from gradiograph.audit.plan import Plan, plan
from gradiograph.audit.prior import FEW_PATIENTS, PriorSummary, train_prior
from gradiograph.audit.rescore import rescore
from gradiograph.audit.restorer import RestorerQuality, train_restorer
from gradiograph.audit.run import Progress, run
from gradiograph.audit.spec import Spec, builtin, load_spec, parse_spec

__all__ = [
    "FEW_PATIENTS",
    "Cost",
    "EpsilonAudit",
    "GeneratorQuality",
    "JudgeQuality",
    "Plan",
    "PriorSummary",
    "Progress",
    "RestorerQuality",
    "Spec",
    "audit_epsilon",
    "builtin",
    "estimate",
    "inspect_weights",
    "ledgers",
    "lint_audit",
    "load_components",
    "load_spec",
    "open_data",
    "parse_spec",
    "plan",
    "rescore",
    "run",
    "run_captured",
    "scan_inputs",
    "train_generator",
    "train_judge",
    "train_prior",
    "train_restorer",
]

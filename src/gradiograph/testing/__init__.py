"""The contract suite: what every component promises, checked for ours and for those of third parties.

Each `check_*` takes a function that builds the component, runs a table of checks on small invented material and
raises `ContractBroken` with the list of all promises that were not kept. They need no test framework.
"""

from gradiograph.testing.attack import check_attack
from gradiograph.testing.component import check_component
from gradiograph.testing.contract import ContractBroken
from gradiograph.testing.custody import CustodyBroken, check_custody
from gradiograph.testing.data import check_data
from gradiograph.testing.defence import check_defence
from gradiograph.testing.metric import check_metric
from gradiograph.testing.protocol import check_protocol
from gradiograph.testing.rooms import load_rooms
from gradiograph.testing.server import check_server
from gradiograph.testing.task import check_task

__all__ = [
    "ContractBroken",
    "CustodyBroken",
    "check_attack",
    "check_component",
    "check_custody",
    "check_data",
    "check_defence",
    "check_metric",
    "check_protocol",
    "check_server",
    "check_task",
    "load_rooms",
]

"""What is promised, one file for each promise; see docs/internals for the list."""

from tests.simulation.checks.admission import Admission
from tests.simulation.checks.alarms import NoFalseAlarm
from tests.simulation.checks.balances import BalanceAtAnyTime
from tests.simulation.checks.bounds import BoundedQueues
from tests.simulation.checks.causality import CausalClosure
from tests.simulation.checks.chains import GaplessChains
from tests.simulation.checks.clocks import Clocks
from tests.simulation.checks.compensations import Compensations
from tests.simulation.checks.conservation import Conservation
from tests.simulation.checks.digests import EqualDigests
from tests.simulation.checks.due import NothingOverdue
from tests.simulation.checks.durability import Durability
from tests.simulation.checks.escrow import NoOverspendUnderEscrow
from tests.simulation.checks.forgetting import KeysForgotten
from tests.simulation.checks.frontiers import FrontierGoesOn
from tests.simulation.checks.isolation import TenantIsolation
from tests.simulation.checks.lag import LagGoesAway
from tests.simulation.checks.promises import Promises
from tests.simulation.checks.reconciliation import Reconciled
from tests.simulation.checks.reports import EqualReports
from tests.simulation.checks.requests import OneEffect
from tests.simulation.checks.serial import SerialLedgers
from tests.simulation.checks.transfers import BothAccounts
from tests.simulation.watch import Check


def all_checks() -> list[Check]:
    """Every check, new, for one run."""
    ledgers = SerialLedgers()
    admission = Admission(ledgers)
    return [
        GaplessChains(),
        CausalClosure(),
        Clocks(),
        Promises(),
        Conservation(),
        ledgers,
        admission,
        BalanceAtAnyTime(ledgers),
        Durability(),
        EqualDigests(),
        TenantIsolation(),
        BoundedQueues(),
        NoFalseAlarm(),
        OneEffect(),
        KeysForgotten(),
        BothAccounts(),
        NoOverspendUnderEscrow(),
        Compensations(),
        EqualReports(),
        Reconciled(ledgers, admission),
        FrontierGoesOn(),
        LagGoesAway(),
        NothingOverdue(),
    ]

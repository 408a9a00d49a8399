"""What a campaign must have seen: a fault or a branch that never happened has proved nothing."""

from typing import Final

from conflict.detect import Kind
from conflict.report import State
from ledger.refusal import Reason
from node.alarms import AlarmKind
from node.finding import FindingKind
from tests.simulation.scenario import Fault

ALARMS: Final = (AlarmKind.CLOCK_AHEAD, AlarmKind.LATE, AlarmKind.FORK, AlarmKind.MALFORMED)

EXPECTED: Final = frozenset(
    [
        *(f"fault: {fault}" for fault in Fault),
        *(f"conflict: {kind}" for kind in Kind),
        *(f"conflict {state}" for state in State if state is not State.DETECTED),
        *(f"refused: {reason}" for reason in Reason),
        *(f"alarm: {alarm}" for alarm in ALARMS),
        *(f"frame {what}" for what in ("lost", "doubled", "overtaken", "spoilt", "blocked", "refused")),
        *(
            f"accepted: {what}"
            for what in (
                "Grant",
                "Hold",
                "Renew",
                "Capture",
                "Release",
                "Debit",
                "Refund",
                "Revoke",
                "Transfer",
                "Policy",
                "Heartbeat",
                "Usage",
            )
        ),
        *(f"posted: {what}" for what in ("Lapse", "Expire", "Settle", "Move", "Compensation")),
        *(f"link closed: {why}" for why in ("silent", "bad-frame", "peer-left", "stopping", "unexpected-frame")),
        *(f"settled: {kind}" for kind in FindingKind),
        "finding gone",
        "finding not settled",
        "finding settled before: Compensation",
        "finding settled before: Usage",
        "snapshot survives a restart",
        "stopped by a damaged row",
        "start without damaged entries",
        "commit mended",
        "acknowledged before",
        "acknowledged now",
        "conflict with several acknowledgements",
        "answer replayed",
        "answer of another region replayed",
        "batch",
        "batch lost in the crash",
        "batch survives the crash",
        "cut for hours",
        "book dropped from memory",
        "client gives up",
        "entries waited for their causes",
        "entry destroyed with its last disk",
        "key misused",
        "key used again after its lifetime",
        "regions agree meanwhile",
        "rebuild cut off",
        "refused: low disk",
        "reply lost",
        "request lost",
        "request repeated",
        "retry elsewhere",
        "tenant under escrow without debt",
        "transfer that was made twice",
    ]
)
"""The names under which a run counts them (`tests.simulation.trace`)."""

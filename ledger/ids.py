"""The names of things, and the order of operations.

Ids are printable ASCII without space and ``/``, so that they can stand in a URL path, in an account name and in a
store key without escaping. The patterns below are the whole rule; whatever decodes an id checks it with them.

A name that begins with ``~`` is one that the ledger has made itself, from what it names: a transfer, or the usage of a
job that nothing was reserved for. Nobody can take such a name in advance.
"""

from hashlib import blake2b
from typing import Annotated, Final, NamedTuple, NewType

from msgspec import Meta

TENANT_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}\Z"
MAX_NAME: Final = 128

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}\Z"
"""What a client may call a lot or a claim that it makes."""

ID_PATTERN: Final = r"^~?[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}\Z"
"""What a lot or a claim can be called."""

KEY_PATTERN: Final = r"^[!-~]{1,255}\Z"
REGION_PATTERN: Final = r"^[a-z0-9][a-z0-9-]{0,31}\Z"
BOOT_PATTERN: Final = r"^[0-9a-z]{1,32}\Z"

TenantId = NewType("TenantId", str)
LotId = NewType("LotId", str)
ClaimId = NewType("ClaimId", str)
Key = NewType("Key", str)

CheckedRegion = Annotated[str, Meta(pattern=REGION_PATTERN)]
CheckedTenant = Annotated[TenantId, Meta(pattern=TENANT_PATTERN)]
CheckedLot = Annotated[LotId, Meta(pattern=ID_PATTERN)]
CheckedClaim = Annotated[ClaimId, Meta(pattern=ID_PATTERN)]
NewLot = Annotated[LotId, Meta(pattern=NAME_PATTERN)]
NewClaim = Annotated[ClaimId, Meta(pattern=NAME_PATTERN)]
CheckedKey = Annotated[Key, Meta(pattern=KEY_PATTERN)]

JobId = NewType("JobId", str)
CheckedJob = Annotated[JobId, Meta(min_length=1, max_length=255)]
"""The scheduler's own name for a piece of work."""


class Position(NamedTuple):
    """An entry's place in canonical order: one total order, in which causes come before their consequences.

    ``hlc`` is a hybrid logical clock reading as one integer: milliseconds in the upper 48 bits, a counter in the
    lower 16. The other fields break ties and make the position a name: no two entries share one.
    """

    hlc: int
    region: str
    boot: str
    seq: int

    @property
    def now(self) -> int:
        """Milliseconds since the epoch: what the fold takes for the present at this place."""
        return self.hlc >> 16


def derived(*parts: str) -> str:
    """A name made from what it names: 24 hex digits, the same in every region."""
    return blake2b("\0".join(parts).encode(), digest_size=12).hexdigest()


def transfer_name(giver: TenantId, receiver: TenantId, key: Key) -> str:
    """What a transfer is called in both accounts: the claim in the giver's and the lot in the receiver's."""
    return f"~{derived(giver, receiver, key)}"


def usage_name(job: JobId) -> ClaimId:
    """The claim that a job's usage makes when nothing was reserved for the job."""
    # A job may be called anything, also three names with zero bytes between them; no giver has an empty name.
    return ClaimId(f"~{derived('', job)}")

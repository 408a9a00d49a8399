"""The space-time diagram, drawn as it should look."""

from msgspec import structs

from creditmesh import wire
from node.cli.diagram import MAX_RIVALS_DRAWN, WIDTH, draw, names_in
from tests.unit.node.cli_story import EAST, LOSER, OVERSPEND, RIVALS, SOUTH

REGIONS = ("ap-south", "eu-west", "us-east")


def drawn(conflict: wire.Conflict, regions: tuple[str, ...] = REGIONS) -> str:
    return "\n" + "\n".join(line.plain.rstrip() for line in draw(conflict, regions)) + "\n"


def test_an_overspend_from_the_lost_message_to_the_compensation() -> None:
    assert (
        drawn(OVERSPEND)
        == """
time (UTC)       ap-south   eu-west    us-east
12:00:07.412        │          ●╌╌╌╌╌╌╌╌╌✗│       rival eu-west:812
                    │          │          │       hold 480 c5
                    │          │          │       us-east had heard up to :790
                    │          │          │
12:00:07.955        │          │          ◆       loser us-east:655
                    │          │          │       hold 600 c7
                    │          │          │       l1: −600, in order −120
                    │          │          │       debt: 480
                    │          │          │
                    │          ├─────────▶│       us-east hears what eu-west had accepted
                    │          │          │
12:00:21.030        │          │          ■       compensation us-east:702
                    │          │          │       debt −480
                    │          │          │       lot/l1 +480
                    │          │          │
"""
    )


def test_a_message_crosses_the_lane_between_and_ends_before_the_loser() -> None:
    conflict = structs.replace(OVERSPEND, rivals=RIVALS[1:], compensations=[])
    assert (
        drawn(conflict)
        == """
time (UTC)       ap-south   eu-west    us-east
12:00:07.600        ●╌╌╌╌╌╌╌╌╌╌┼╌╌╌╌╌╌╌╌╌✗│       rival ap-south:3
                    │          │          │       release c3
                    │          │          │       us-east had heard up to :400
                    │          │          │
12:00:07.955        │          │          ◆       loser us-east:655
                    │          │          │       hold 600 c7
                    │          │          │       l1: −600, in order −120
                    │          │          │       debt: 480
                    │          │          │
                    │          │          │       no compensation is known here yet
"""
    )


def test_a_message_to_the_left() -> None:
    loser = structs.replace(LOSER, replica=SOUTH, region="ap-south", clock={SOUTH: 655})
    rival = structs.replace(RIVALS[0], replica=EAST, region="us-east")
    first, *_ = list(draw(structs.replace(OVERSPEND, loser=loser, rivals=[rival]), REGIONS))[1:]
    assert first.plain == "12:00:07.412        │✗╌╌╌╌╌╌╌╌╌┼╌╌╌╌╌╌╌╌╌╌●       rival us-east:812"


def test_a_region_of_which_nothing_had_been_heard() -> None:
    unheard = structs.replace(LOSER, clock={EAST: 655})
    assert "us-east had heard nothing" in drawn(structs.replace(OVERSPEND, loser=unheard))


def test_a_rival_of_an_earlier_boot_of_the_losers_own_region_has_no_message() -> None:
    rival = structs.replace(RIVALS[0], replica="us-east/b0", region="us-east")
    conflict = structs.replace(OVERSPEND, rivals=[rival])
    assert names_in(conflict).of == {"us-east/b0": "us-east#1", "us-east/b1": "us-east#2"}
    assert "│          │          ●       rival us-east#1:812" in drawn(conflict)
    assert "hears" not in drawn(conflict)


def test_another_outcome_is_told() -> None:
    conflict = structs.replace(OVERSPEND, kind=wire.ConflictKind.DUPLICATE, canonical_outcome="duplicate", debt=0)
    assert "recorded as applied, in order duplicate" in drawn(conflict)


def test_rivals_that_are_not_drawn_are_counted() -> None:
    many = structs.replace(OVERSPEND, rivals=RIVALS[:1] * 16, rival_count=1234)
    assert drawn(many).count("●") == MAX_RIVALS_DRAWN
    assert f"and {1234 - MAX_RIVALS_DRAWN:,} more rivals" in drawn(many)


def test_a_region_that_has_left_the_cluster_still_has_a_lane() -> None:
    assert "eu-west" in drawn(OVERSPEND, ("ap-south", "us-east")).splitlines()[1]


def test_in_a_large_cluster_only_those_who_take_part_have_a_lane() -> None:
    many = tuple(sorted(["eu-west", "us-east", *(f"other-{number}" for number in range(20))]))
    assert drawn(OVERSPEND, many).splitlines()[1].split() == ["time", "(UTC)", "eu-west", "us-east"]


def test_no_line_is_wider_than_the_page() -> None:
    regions = tuple(f"region-with-a-long-name-{number:02}" for number in range(5))
    wide = structs.replace(LOSER, region=regions[0], replica=f"{regions[0]}/b1", claim="c" * 128)
    rival = structs.replace(RIVALS[0], region=regions[4], replica=f"{regions[4]}/b1")
    conflict = structs.replace(OVERSPEND, loser=wide, rivals=[rival])
    assert max(len(line) for line in drawn(conflict, regions).splitlines()) <= WIDTH

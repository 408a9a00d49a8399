"""What a scrape says after things have happened."""

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from node.metrics import ACCEPTED, CONTENT_TYPE, Gauges, Histogram, Metrics

GAUGES = Gauges(
    conflicts={"overspend": 4},
    orphaned_holds=5,
    forks=1,
    damaged_commits=2,
    mended_commits=3,
    debt_outstanding=70,
    negative_balances=2,
    findings={"never_started": 6, "books_differ": 0},
    replication_lag_entries={"eu-west": 9, "ap-south": 0},
    replication_silence_seconds={"eu-west": 1.5},
    frontier_age_seconds={"us-east": 0.25},
    clock_offset_seconds={"eu-west": -0.125},
    queue_depth={"commit": 3},
)


def scrape(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """Every sample of the node's own, by name and label values."""
    text = metrics.exposition().decode()
    return {
        (sample.name.removeprefix("creditmesh_"), tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("creditmesh_")
    }


def test_reservations_are_counted_by_outcome_and_timed() -> None:
    metrics = Metrics()
    metrics.reservation(ACCEPTED, 0.002)
    metrics.reservation(ACCEPTED, 0.003)
    metrics.reservation("insufficient-credit", 0.0001)
    metrics.insufficient_credit()
    samples = scrape(metrics)
    assert samples["reservation_attempts_total", ("accepted",)] == 2
    assert samples["reservation_attempts_total", ("insufficient-credit",)] == 1
    assert samples["insufficient_credit_refusals_total", ()] == 1
    assert samples["admission_latency_seconds_count", ()] == 3
    assert samples["admission_latency_seconds_bucket", ("0.00025",)] == 1
    assert samples["admission_latency_seconds_bucket", ("0.0025",)] == 2
    assert samples["admission_latency_seconds_bucket", ("0.005",)] == 3
    assert samples["admission_latency_seconds_sum", ()] == pytest.approx(0.0051)


def test_commits_give_their_size_and_their_time() -> None:
    metrics = Metrics()
    metrics.batch_sealed(100)
    metrics.commit_landed(0.004)
    metrics.written(0.006)
    samples = scrape(metrics)
    assert samples["batch_entries_sum", ()] == 100
    assert samples["batch_entries_bucket", ("64.0",)] == 0
    assert samples["batch_entries_bucket", ("128.0",)] == 1
    assert samples["commit_latency_seconds_sum", ()] == pytest.approx(0.004)
    assert samples["ledger_write_latency_seconds_sum", ()] == pytest.approx(0.006)


def test_frames_are_counted_by_why_they_were_refused() -> None:
    metrics = Metrics()
    metrics.frame_refused("too-long")
    metrics.frame_refused("too-long")
    metrics.frame_refused("float")
    samples = scrape(metrics)
    assert samples["frames_refused_total", ("too-long",)] == 2
    assert samples["frames_refused_total", ("float",)] == 1


def test_how_things_stand_is_what_was_told_last() -> None:
    metrics = Metrics()
    assert ("debt_outstanding_credits", ()) not in scrape(metrics)
    metrics.observe(msgspec.structs.replace(GAUGES, debt_outstanding=5))
    metrics.observe(GAUGES)
    samples = scrape(metrics)
    assert samples["conflicts_total", ("overspend",)] == 4
    assert samples["orphaned_holds_total", ()] == 5
    assert samples["forks_total", ()] == 1
    assert samples["debt_outstanding_credits", ()] == 70
    assert samples["negative_balance_tenants", ()] == 2
    assert samples["reconciliation_findings", ("never_started",)] == 6
    assert samples["reconciliation_findings", ("books_differ",)] == 0
    assert samples["replication_lag_entries", ("eu-west",)] == 9
    assert samples["replication_lag_entries", ("ap-south",)] == 0
    assert samples["replication_silence_seconds", ("eu-west",)] == 1.5
    assert samples["frontier_age_seconds", ("us-east",)] == 0.25
    assert samples["clock_offset_seconds", ("eu-west",)] == -0.125
    assert samples["queue_depth", ("commit",)] == 3


def test_two_nodes_in_one_process_do_not_share_counts() -> None:
    one, other = Metrics(), Metrics()
    one.insufficient_credit()
    assert scrape(one)["insufficient_credit_refusals_total", ()] == 1
    assert scrape(other)["insufficient_credit_refusals_total", ()] == 0


def test_a_scrape_is_prometheus_text_with_process_metrics_beside() -> None:
    assert CONTENT_TYPE.startswith("text/plain")
    assert b"process_resident_memory_bytes" in Metrics().exposition()


@pytest.mark.parametrize(("value", "bucket"), [(0.5, 0), (1.0, 0), (1.5, 1), (2.0, 1), (9.0, 2)])
def test_a_bucket_holds_what_is_at_most_its_bound(value: float, bucket: int) -> None:
    histogram = Histogram((1.0, 2.0))
    histogram.observe(value)
    assert histogram.counts.index(1) == bucket

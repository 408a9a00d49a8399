"""The pytest plugin as a project that uses it sees it."""

import subprocess
import sys

import pytest

USES_IT = """
    import asyncio
    import pytest

    FAR_FUTURE_MS = 4_000_000_000_000

    async def spend_on_both_sides(make):
        async with make() as cluster:
            await cluster.start()
            here, there = (cluster.client(region) for region in cluster.regions)
            await here.grant("acme", 100, expires_at=FAR_FUTURE_MS)
            await cluster.converged()
            await cluster.cut(cluster.regions[0])
            await here.debit("acme", 80)
            await there.debit("acme", 70)
            await cluster.heal()
            await cluster.converged()
            return cluster.regions, (await there.balance("acme")).debt

    @pytest.mark.creditmesh("here", "there", settings="[timing]\\nsettle_after_ms = 100")
    def test_regions_of_the_marker(creditmesh_cluster):
        assert asyncio.run(spend_on_both_sides(creditmesh_cluster)) == (("here", "there"), 50)

    def test_what_is_asked_for(creditmesh_cluster, tmp_path):
        assert creditmesh_cluster().regions == ("one", "two")
        assert creditmesh_cluster("a", "b", seed=5).regions == ("a", "b")
        assert len(list(tmp_path.iterdir())) == 2
"""

FAILS = """
    import asyncio

    async def start(make):
        async with make("alone") as cluster:
            await cluster.start()
            assert not cluster.running

    def test_that_fails(creditmesh_cluster):
        asyncio.run(start(creditmesh_cluster))
"""


def test_a_project_gets_clusters_from_the_fixture(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ncreditmesh_regions = one two\naddopts = -p no:asyncio --strict-markers -W error")
    pytester.makepyfile(USES_IT)
    pytester.runpytest_subprocess().assert_outcomes(passed=2)


def test_the_report_of_a_failed_test_shows_what_the_nodes_said(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(FAILS)
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*alone.log (its end)*", "*event=serving region=alone*"])


def test_a_project_that_does_not_use_it_does_not_pay_for_it() -> None:
    program = "import sys, pytest_creditmesh; print('creditmesh' in sys.modules, 'aiohttp' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed == "False False\n"

"""The console in a real browser, against real nodes: what appears in it, and what can be done there."""

import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, async_playwright, expect

from creditmesh.testing import LocalCluster
from tests.integration.test_acknowledging import FAR_FUTURE_MS, overspent

pytestmark = pytest.mark.browser

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
HOSTILE = "<img src=x onerror=alert(1)>"
REFUSED = "Failed to load resource"
"""What a browser says of each refusal, and of a node that is gone."""

expect.set_options(timeout=30_000)


@pytest.fixture
async def page(cluster: LocalCluster) -> AsyncIterator[Page]:
    """The console of ap-south. Whatever the browser complains of fails the test."""
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        pytest.fail("there is no Chromium on this machine: install it with `sudo apt-get install chromium`")
    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=found,
            # Nothing but the node is there to talk to; root may use no sandbox, and an account of a CI is root.
            args=["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"],
            chromium_sandbox=False,
        )
        opened = await browser.new_page()
        opened.on("console", lambda message: complaints.append(message.text))
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on("dialog", lambda dialog: complaints.append(dialog.message))
        await opened.goto(cluster.urls["ap-south"] + "/console")
        await expect(opened.locator("#live")).to_have_text("live")
        yield opened
        await browser.close()
    assert [complaint for complaint in complaints if not complaint.startswith(REFUSED)] == []


async def test_a_conflict_appears_and_is_acknowledged(cluster: LocalCluster, page: Page) -> None:
    await expect(page.locator("#conflicts")).to_have_text("none")
    (report,) = await overspent(cluster, "acme")
    row = page.locator("#conflicts tr")
    await expect(row).to_contain_text("acme")
    await expect(row).to_contain_text("compensated")

    # By keyboard alone.
    await row.get_by_role("button").focus()
    await page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name=report.id)
    await expect(dialog.locator("#contenders tr")).to_have_count(2)
    await expect(dialog.locator("#differences")).to_contain_text("-50")
    await expect(dialog.locator("#compensations")).to_contain_text("debt -50")
    await dialog.get_by_label("your name").fill(HOSTILE)
    await page.keyboard.press("Tab")
    await page.keyboard.type("told them")
    await page.keyboard.press("Enter")
    await expect(dialog.locator("#acknowledge-answer")).to_have_text("Acknowledged.")
    await expect(dialog.locator("#acknowledgements")).to_contain_text(HOSTILE)
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await expect(row).to_contain_text(HOSTILE)

    await page.locator("#filter").get_by_label("acknowledged").select_option("no")
    await expect(page.locator("#conflicts")).to_have_text("none")
    await cluster.converged()
    (said,) = (await cluster.client("us-east").conflict(report.id)).conflict.acknowledged
    assert (said.by, said.note, said.region) == (HOSTILE, "told them", "ap-south")


async def test_what_another_region_says_comes_into_the_open_report(cluster: LocalCluster, page: Page) -> None:
    (report,) = await overspent(cluster, "acme")
    await page.get_by_role("button", name=f"Open the report {report.id}").click()
    await expect(page.locator("#acknowledgements")).to_have_text("by nobody")
    await cluster.client("us-east").acknowledge(report.id, by="ann")
    await expect(page.locator("#acknowledgements")).to_contain_text("ann")


async def test_the_cluster_and_a_tenant(cluster: LocalCluster, page: Page) -> None:
    us = cluster.client("us-east")
    await us.grant("acme", amount=1_234, expires_at=FAR_FUTURE_MS, lot="gift")
    await us.reserve("acme", 234, lease_ms=60_000, reservation="r1", job=HOSTILE)
    await cluster.converged()
    await expect(page.locator("#regions tr")).to_have_count(2)
    await expect(page.locator("#regions")).to_contain_text("us-eastup")

    tenant = page.get_by_role("search").get_by_label("tenant")
    await tenant.fill("nobody")
    await tenant.press("Enter")
    await expect(page.locator("#tenant-trouble")).to_have_text("no such tenant")
    await tenant.fill("acme")
    await tenant.press("Enter")
    await expect(page.locator("#balance")).to_contain_text("available1,000")
    await expect(page.locator("#lots")).to_contain_text("gift1,000")
    await expect(page.locator("#reservations")).to_contain_text(f"r1{HOSTILE}234")
    await us.release("acme", "r1")
    await expect(page.locator("#balance")).to_contain_text("available1,234")
    await expect(page.locator("#reservations")).to_have_text("none")


async def test_a_node_that_is_gone_is_told_and_comes_back(cluster: LocalCluster, page: Page) -> None:
    await cluster.kill("ap-south")
    await expect(page.locator("#live")).to_have_text("not connected")
    await expect(page.locator("#cluster-trouble")).to_contain_text("does not answer")
    await cluster.start("ap-south")
    await expect(page.locator("#live")).to_have_text("live")
    await expect(page.locator("#cluster-trouble")).to_be_hidden()

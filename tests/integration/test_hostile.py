"""What a node does with rubbish: it says why, ends the link or the request, and goes on."""

import asyncio
import subprocess
import sys

import aiohttp
import pytest

from creditmesh.testing import LocalCluster, free_ports

FAR_FUTURE_MS = 4_000_000_000_000


def peer_url(cluster: LocalCluster, region: str) -> str:
    lines = cluster.config.read_text().splitlines()
    at = lines.index(f'name = "{region}"')
    return "http://" + lines[at + 2].split('"')[1] + "/v1/peer"


@pytest.mark.parametrize("rubbish", [b"", b"\xc1", b"\x93\x01", b"\xcb" + bytes(8), bytes(1_200_000), "hello there"])
async def test_a_peer_that_sends_rubbish_is_disconnected_and_the_node_goes_on(
    cluster: LocalCluster, rubbish: bytes | str
) -> None:
    us = cluster.client("us-east")
    async with aiohttp.ClientSession() as http:
        async with http.ws_connect(peer_url(cluster, "us-east")) as socket:
            if isinstance(rubbish, str):
                await socket.send_str(rubbish)
            else:
                await socket.send_bytes(rubbish)
            async with asyncio.timeout(10):
                while (await socket.receive()).type is aiohttp.WSMsgType.BINARY:
                    pass
        async with http.get(f"{cluster.urls['us-east']}/metrics") as response:
            assert "creditmesh_frames_refused_total{reason=" in await response.text()
    await us.grant("acme", amount=10, expires_at=FAR_FUTURE_MS)
    await cluster.converged()


async def test_what_is_no_http_is_answered_with_a_problem(cluster: LocalCluster) -> None:
    host, port = cluster.urls["us-east"].removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GARBAGE\r\n\r\n")
    answer = await reader.read()
    writer.close()
    assert b" 400 " in answer.splitlines()[0]
    assert b"application/problem+json" in answer


async def test_a_second_node_for_a_region_that_runs_is_refused_with_one_line(cluster: LocalCluster) -> None:
    command = [sys.executable, "-m", "node.cli", "serve", "--region", "us-east", "--config", str(cluster.config)]
    second = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=30)
    assert second.returncode != 0
    assert len(second.stderr.strip().splitlines()) == 1
    assert "address already in use" in second.stderr.lower()
    assert not (await cluster.client("us-east").ready()).reasons


async def test_two_processes_on_one_directory_are_refused_with_one_line(cluster: LocalCluster) -> None:
    lines = cluster.config.read_text().splitlines()
    at = lines.index('name = "us-east"')
    other = cluster.root / "other.toml"
    ports = free_ports(2)
    lines[at + 1], lines[at + 2] = f'listen = "127.0.0.1:{ports[0]}"', f'peer_listen = "127.0.0.1:{ports[1]}"'
    other.write_text("\n".join(lines))
    command = [sys.executable, "-m", "node.cli", "serve", "--region", "us-east", "--config", str(other)]
    second = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=30)
    assert second.returncode != 0
    assert len(second.stderr.strip().splitlines()) == 1
    assert str(cluster.root / "us-east") in second.stderr

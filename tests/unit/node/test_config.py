"""cluster.toml: what it may say, what it means when it says nothing, and how a mistake in it is reported."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from ledger.pricing import HOUR_MS, Work
from ledger.refusal import Limits, Terms
from ledger.rules import Rules
from node.config import DAY_MS, Address, ConfigError, load
from node.settings import RegionSettings

SHIPPED = Path(__file__).parents[3] / "cluster.toml"

CLUSTER = '[cluster]\nid = "c"\n'
TWO_REGIONS = """
[[region]]
name = "a"
listen = "127.0.0.1:7101"
peer_listen = "127.0.0.1:7201"
data = "var/a"
[[region]]
name = "b"
listen = "[::1]:7102"
peer_listen = "localhost:7202"
data = "var/b"
"""
MINIMAL = CLUSTER + TWO_REGIONS


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cluster.toml"
    path.write_text(text)
    return path


def test_the_shipped_file_is_three_regions_on_loopback_with_directories_of_their_own() -> None:
    config = load(SHIPPED)
    assert [region.name for region in config.regions] == ["us-east", "eu-west", "ap-south"]
    assert [region.data for region in config.regions] == [
        SHIPPED.parent / "var" / region.name for region in config.regions
    ]
    assert not config.file.chaos.enabled


def test_the_shipped_file_spells_out_every_default(tmp_path: Path) -> None:
    text = SHIPPED.read_text()
    spelt_out = re.sub(r"^# (?=[a-z_]+ = )", "", text, flags=re.MULTILINE)
    defaults = msgspec.to_builtins(load(SHIPPED).file)
    assert tomllib.loads(spelt_out) == defaults
    assert msgspec.to_builtins(load(written(tmp_path, spelt_out)).file) == defaults


def test_the_defaults_are_those_of_the_region_itself() -> None:
    settings = load(SHIPPED).node("eu-west").settings
    assert settings == RegionSettings(
        cluster="creditmesh",
        region="eu-west",
        regions=("ap-south", "eu-west", "us-east"),
        terms=Terms(Limits(31 * DAY_MS, 60_000), settings.terms.rates),
        weights=(("ap-south", 1), ("eu-west", 1), ("us-east", 1)),
    )


def test_every_setting_reaches_the_region(tmp_path: Path) -> None:
    sections = """
[limits]
max_lease_ms = 1
max_ahead_ms = 2
max_late_ms = 12
heartbeat_lease_ms = 13
[rules]
key_lifetime_ms = 14
[timing]
settle_after_ms = 3
settle_at_most_ms = 4
checkpoint_after_ms = 5
max_clock_drift_ms = 6
anti_entropy_interval_ms = 7
[replication]
page_entries = 8
page_bytes = 9000
window_entries = 10
[memory]
tenants_in_memory = 11
[reconciliation]
grace_ms = 12
"""
    weighed = MINIMAL.replace('data = "var/b"', 'data = "var/b"\nweight = 7')
    settings = load(written(tmp_path, weighed + sections)).node("a").settings
    assert settings.terms.limits == Limits(1, 2, 12, 13)
    assert settings.rules == Rules(14)
    assert settings.weights == (("a", 1), ("b", 7))
    assert msgspec.structs.astuple(settings)[6:] == (3, 4, 5, 6, 7, 8, 9000, 10, 11, 12)


def test_rates_come_as_integers_or_as_text_and_from_a_date_or_a_time_on(tmp_path: Path) -> None:
    sections = """
[[rates]]
since = 2027-01-01
gpu_hour = { A100 = "7.25" }
multiplier = { spot = "0.4" }
[[rates]]
gpu_hour = { A100 = 7 }
[[rates]]
since = 2027-01-02T01:00:00+01:00
gpu_hour = { A100 = 8 }
"""
    rates = load(written(tmp_path, MINIMAL + sections)).node("a").settings.terms.rates
    new_year = 1_798_761_600_000
    for at, spot, expected in (
        (0, None, 7),
        (new_year - HOUR_MS, None, 7),
        (new_year, None, 8),
        (new_year, "spot", 3),
        (new_year + DAY_MS, None, 8),
        (new_year + DAY_MS - HOUR_MS // 2, None, 8),
    ):
        assert rates.price(Work("A100", 1, spot), at, at + HOUR_MS) == expected


def test_a_node_is_told_its_own_place_and_its_peers(tmp_path: Path) -> None:
    node = load(written(tmp_path, MINIMAL)).node("b")
    assert node.cluster == "c"
    assert node.region.listen == Address("::1", 7102)
    assert str(node.region.listen) == "[::1]:7102"
    assert str(node.region.peer_listen) == "127.0.0.1:7202"
    assert [peer.name for peer in node.peers] == ["a"]


def test_directories_are_relative_to_the_file_and_absolute_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, MINIMAL.replace('"var/b"', '"/srv/credit/b"'))
    monkeypatch.chdir("/")
    assert [region.data for region in load(path).regions] == [tmp_path / "var/a", Path("/srv/credit/b")]


def test_a_data_root_replaces_all_directories(tmp_path: Path) -> None:
    root = tmp_path / "elsewhere"
    config = load(written(tmp_path, MINIMAL), data=root)
    assert [region.data for region in config.regions] == [root / "a", root / "b"]


def test_a_region_that_the_file_does_not_name_is_an_error_that_lists_those_it_does(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no region 'mars'; there are: a, b$"):
        load(written(tmp_path, MINIMAL)).node("mars")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[cluster\n", r"not TOML: .*line 1"),
        ("a = " + 5000 * "[", r"not TOML: nested too deeply"),
        ("", r"cluster: missing"),
        (CLUSTER, r"region: missing"),
        (CLUSTER + "region = []\n", r"cluster\.region: unknown key"),
        ("region = []\n" + CLUSTER, r"region: expected `array` of length >= 1"),
        (TWO_REGIONS + "[cluster]\n", r"cluster\.id: missing"),
        (MINIMAL.replace('id = "c"', 'id = "C!"'), r"cluster\.id: expected `str` matching regex"),
        (MINIMAL + "[colour]\n", r"colour: unknown key"),
        (MINIMAL + "[limits]\nbody_byte = 5\n", r"limits\.body_byte: unknown key"),
        (MINIMAL + "[limits]\nbody_bytes = 5\n", r"limits\.body_bytes: expected `int` >= 1024"),
        (MINIMAL + "[limits]\nbody_bytes = 2048.0\n", r"limits\.body_bytes: expected `int`, got `float`"),
        (MINIMAL + '[timing]\nsettle_after_ms = "1s"\n', r"timing\.settle_after_ms: expected `int`, got `str`"),
        (MINIMAL + "[timing]\nsettle_after_ms = 0\n", r"timing\.settle_after_ms: expected `int` >= 1"),
        (MINIMAL + "[timing]\nsettle_at_most_ms = 999\n", r"timing\.settle_at_most_ms: must be at least"),
        (MINIMAL + "[store]\nmax_map_bytes = 1_048_576\n", r"store\.max_map_bytes: must be at least store\.map_bytes"),
        (MINIMAL + "[replication]\npage_bytes = 900_000\n", r"replication\.page_bytes: expected `int` <= 524288"),
        (MINIMAL + "[rules]\nkey_lifetime_ms = 3_023_999_999\n", r"rules\.key_lifetime_ms: must be at least limits"),
        (MINIMAL + "[limits]\nmax_late_ms = 7_776_000_001\n", r"rules\.key_lifetime_ms: must be at least"),
        (MINIMAL + "[limits]\nbatch_bytes = 2048\n", r"limits\.batch_bytes: must be at least limits\.body_bytes"),
        (MINIMAL + "[[rates]]\n", r"rates\[0\]\.gpu_hour: missing"),
        (MINIMAL + "[[rates]]\ngpu_hour = {}\n", r"rates\[0\]\.gpu_hour: expected `object` of length >= 1"),
        (MINIMAL + "[[rates]]\ngpu_hour = { A = 0.5 }\n", r"rates\[0\]\.gpu_hour.*: expected `int \| str`"),
        (MINIMAL + '[[rates]]\ngpu_hour = { A = "1e9" }\n', r"rates\[0\]\.gpu_hour.*: expected `str` matching regex"),
        (MINIMAL + "[[rates]]\ngpu_hour = { A = -1 }\n", r"rates\[0\]\.gpu_hour.*: expected `int` >= 0"),
        (MINIMAL + 2 * "[[rates]]\ngpu_hour = { A = 1 }\n", r"rates\[1\]\.since: the same time as rates\[0\]"),
        (MINIMAL + "[[rates]]\nsince = 2027-01-01T00:00:00\ngpu_hour = { A = 1 }\n", r"since: must say its offset"),
        (MINIMAL + '[chaos]\nenabled = "yes"\n', r"chaos\.enabled: expected `bool`, got `str`"),
        (MINIMAL + "lisen = 5\n", r"region\[1\]\.lisen: unknown key"),
        (MINIMAL.replace('data = "var/b"\n', ""), r"region\[1\]\.data: missing"),
        (MINIMAL.replace('data = "var/b"', 'data = ""'), r"region\[1\]\.data: expected `str` of length >= 1"),
        (MINIMAL.replace('"b"', '"B"'), r"region\[1\]\.name: expected `str` matching regex"),
        (MINIMAL.replace('"b"', '"a"'), r"region\[1\]\.name: 'a' is taken by region\[0\]\.name already"),
        (MINIMAL.replace("[::1]:7102", "127.0.0.1:7101"), r"listen: 127\.0\.0\.1:7101 is taken by region\[0\]\.listen"),
        (MINIMAL.replace("localhost:7202", "127.0.0.1:7201"), r"region\[1\]\.peer_listen: .* region\[0\]\.peer_listen"),
        (MINIMAL.replace("localhost:7202", "localhost:7101"), r"region\[1\]\.peer_listen: .* region\[0\]\.listen"),
        (MINIMAL.replace("var/b", "var/c/../a"), r"region\[1\]\.data: .*var/a is taken by region\[0\]\.data"),
        (MINIMAL.replace("[::1]:7102", "0.0.0.0:7102"), r"region\[1\]\.listen: .0\.0\.0\.0:7102. .*needs TLS"),
        (MINIMAL.replace("[::1]:7102", "[::]:7102"), r"refused for now, it needs TLS and tokens"),
        (MINIMAL.replace("localhost:7202", "10.0.0.1:7202"), r"region\[1\]\.peer_listen: .*needs TLS and tokens"),
        (MINIMAL.replace("[::1]:7102", "credit.example:7102"), r"neither an IP address nor localhost"),
        (MINIMAL.replace("[::1]:7102", "127.0.0.1"), r"is not host:port"),
        (MINIMAL.replace("[::1]:7102", "127.0.0.1:0"), r"a port from 1 to 65535"),
        (MINIMAL.replace("[::1]:7102", "127.0.0.1:65536"), r"a port from 1 to 65535"),
        (MINIMAL.replace("[::1]:7102", "127.0.0.1:+71"), r"a port from 1 to 65535"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_the_file_and_the_key(tmp_path: Path, text: str, complaint: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=complaint) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert "$" not in message.partition("regex")[0]


def test_a_file_that_is_not_there_or_not_text_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file"):
        load(tmp_path / "nowhere.toml")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"binary\.toml: not UTF-8 text"):
        load(binary)

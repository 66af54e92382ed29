"""Where a service is: a setting becomes the addresses of its replicas."""

import pytest

from pagekeeper.runtime.rpc.addresses import Endpoint, endpoints_of, split


@pytest.mark.parametrize(
    ("setting", "found"),
    [
        ("page-table:7400", [("page-table", 7400)]),
        ("10.0.0.1:1, 10.0.0.2:65535", [("10.0.0.1", 1), ("10.0.0.2", 65535)]),
        ("[::1]:7400,localhost:7401", [("::1", 7400), ("localhost", 7401)]),
    ],
)
def test_a_list_is_split(setting: str, found: list[tuple[str, int]]) -> None:
    assert split(setting) == found


@pytest.mark.parametrize(
    "setting", ["", "page-table", "page-table:", "a:1,", "a:0", "a:65536", "http://a:1", "a:1;b:2"]
)
def test_what_is_no_address_is_refused(setting: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        split(setting)


async def test_a_name_stands_for_all_its_addresses() -> None:
    asked: list[tuple[str, int]] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["10.0.0.2", "10.0.0.1", "10.0.0.2", "fd00::1"]

    found = await endpoints_of("page-table:7400,10.0.0.1:7400,[fd00::2]:7400", resolve)
    assert asked == [("page-table", 7400)]
    assert [endpoint.name for endpoint in found] == [
        "10.0.0.1:7400",
        "10.0.0.2:7400",
        "[fd00::1]:7400",
        "[fd00::2]:7400",
    ]
    assert Endpoint("10.0.0.2", 7400, "page-table:7400") in found
    assert [endpoint.target for endpoint in found][1:3] == ["ipv4:10.0.0.2:7400", "ipv6:[fd00::1]:7400"]

"""A process that is told something wrong says in one line what would be right."""

from pathlib import Path

import pytest

from pagekeeper.runtime.errors import CannotStart
from pagekeeper.runtime.settings import (
    InternalKeySettings,
    ListenSettings,
    LogSettings,
    Settings,
    StoreSettings,
    TokenSettings,
    load,
)


class Everything(ListenSettings, InternalKeySettings, TokenSettings, LogSettings, StoreSettings):
    """All groups together."""


ENVIRONMENT = {
    "PK_LISTEN": "127.0.0.1:7400",
    "PK_INTERNAL_KEY": "internal.key",
    "PK_TOKEN_KEY": "token.key",
    "PK_NATS_URL": "nats://pagekeeper:of-nats@127.0.0.1:4222",
    "PK_S3_ENDPOINT": "[::1]:9000",
    "PK_S3_ACCESS_KEY": "access",
    "PK_S3_SECRET_KEY": "of-s3",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_the_environment_is_read() -> None:
    settings = load(Everything)
    assert settings.listen == "127.0.0.1:7400"
    assert settings.internal_key == Path("internal.key")
    assert settings.nats_url.get_secret_value() == "nats://pagekeeper:of-nats@127.0.0.1:4222"
    assert (settings.log_partitions, settings.s3_bucket, settings.s3_secure) == (4, "pagekeeper-hot", False)
    assert (settings.token_audience, settings.log_level) == ("pagekeeper", "info")


def test_an_empty_variable_is_one_that_is_not_set(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("PK_S3_BUCKET", "")
    assert load(Everything).s3_bucket == "pagekeeper-hot"


def test_secrets_are_not_shown(environment: pytest.MonkeyPatch) -> None:
    assert "of-nats" not in repr(load(Everything))
    assert "of-s3" not in repr(load(Everything))
    environment.setenv("PK_LOG_PARTITIONS", "many")
    with pytest.raises(CannotStart) as refusal:
        load(Everything)
    assert "of-nats" not in str(refusal.value)


@pytest.mark.parametrize("variable", ENVIRONMENT)
def test_a_missing_variable_is_named(variable: str, environment: pytest.MonkeyPatch) -> None:
    environment.delenv(variable)
    with pytest.raises(CannotStart, match=rf"^{variable} is not set: it is [^\n]+$"):
        load(Everything)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PK_LISTEN", "7400"),
        ("PK_LISTEN", "http://127.0.0.1:7400"),
        ("PK_S3_ENDPOINT", "https://s3.example"),
        ("PK_LOG_PARTITIONS", "0"),
        ("PK_LOG_PARTITIONS", "four"),
        ("PK_S3_BUCKET", "b"),
        ("PK_S3_SECURE", "perhaps"),
        ("PK_LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_variable_is_named_with_what_it_says(
    variable: str, value: str, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv(variable, value)
    with pytest.raises(CannotStart, match=rf"^{variable} is '{value}': it is [^\n]+$"):
        load(Everything)


def test_all_problems_are_told_at_once(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("PK_LISTEN")
    environment.setenv("PK_LOG_PARTITIONS", "0")
    with pytest.raises(CannotStart, match=r"^[^\n]+$") as refusal:
        load(Everything)
    problems = str(refusal.value).split("; ")
    assert {problem.partition(" ")[0] for problem in problems} == {"PK_LISTEN", "PK_LOG_PARTITIONS"}


@pytest.mark.parametrize("group", Settings.__subclasses__(), ids=lambda group: group.__name__)
def test_every_setting_says_what_it_is(group: type[Settings]) -> None:
    assert all(field.description for field in group.model_fields.values())

import dataclasses
import multiprocessing
import stat
from pathlib import Path

import pytest

from gradkeel_store.errors import SettingsError
from gradkeel_store.settings import SETTINGS, Settings, default_data, redis_url_of


def test_every_field_is_in_the_table_and_documented() -> None:
    assert [f.name for f in dataclasses.fields(Settings)] != []
    assert {f.name for f in dataclasses.fields(Settings)} == {setting.name for setting in SETTINGS}
    for setting in SETTINGS:
        assert setting.env.startswith("GRADKEEL_")
        assert setting.help.endswith((".", "…."))
    assert len({setting.env for setting in SETTINGS}) == len(SETTINGS)


def test_defaults_in_the_table_are_the_defaults(tmp_path: Path) -> None:
    settings = Settings.load({}, tmp_path)
    for setting in SETTINGS:
        if "DATA" not in setting.default and setting.name not in ("data", "redis_url"):
            assert getattr(settings, setting.name) == setting.parse(setting.default), setting.name


def test_all_lies_under_the_data_folder(tmp_path: Path) -> None:
    settings = Settings.load({"GRADKEEL_DATA": str(tmp_path / "d")})
    assert settings.data == tmp_path / "d"
    assert settings.database_url == f"sqlite:///{tmp_path}/d/gradkeel.db"
    assert settings.objects_url == f"file://{tmp_path}/d/objects"
    assert stat.S_IMODE(settings.data.stat().st_mode) == 0o700


def test_where_the_data_folder_is() -> None:
    assert default_data({"GRADKEEL_DATA": "/x"}) == Path("/x")
    assert default_data({"XDG_DATA_HOME": "/share"}) == Path("/share/gradkeel")
    assert default_data({}) == Path("~/.local/share/gradkeel")


def test_the_environment_decides(tmp_path: Path) -> None:
    env = {
        "GRADKEEL_LEASE_SECONDS": "1.5",
        "GRADKEEL_MAX_ATTEMPTS": "7",
        "GRADKEEL_TRUSTED_HOSTS": "a.example, b",
    }
    settings = Settings.load(env, tmp_path)
    assert (settings.lease_seconds, settings.max_attempts) == (1.5, 7)
    assert settings.trusted_hosts == ("a.example", "b")


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "ten", "1_000x"])
def test_bad_values_name_their_variable(tmp_path: Path, value: str) -> None:
    with pytest.raises(SettingsError, match="GRADKEEL_LEASE_SECONDS"):
        Settings.load({"GRADKEEL_LEASE_SECONDS": value}, tmp_path)


def test_secrets_may_stand_in_files(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("postgresql+psycopg://u:p@db/gradkeel\n")
    settings = Settings.load({"GRADKEEL_DATABASE_URL_FILE": str(file)}, tmp_path)
    assert settings.database_url == "postgresql+psycopg://u:p@db/gradkeel"
    with pytest.raises(SettingsError, match="GRADKEEL_PEPPER_FILE"):
        Settings.load({"GRADKEEL_PEPPER_FILE": str(tmp_path / "absent")}, tmp_path)


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    env = {
        "GRADKEEL_BROKER_URL": "redis://:hush1@h/0",
        "GRADKEEL_PEPPER": "hush2",
        "GRADKEEL_S3_SECRET_KEY": "hush3",
    }
    assert "hush" not in repr(Settings.load(env, tmp_path))


def test_the_pepper_is_made_once(tmp_path: Path) -> None:
    first = Settings.load({}, tmp_path).pepper
    assert len(first) == 43
    assert Settings.load({}, tmp_path).pepper == first
    assert stat.S_IMODE((tmp_path / "pepper").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["pepper"]
    assert Settings.load({"GRADKEEL_PEPPER": "mine"}, tmp_path).pepper == "mine"


def load_pepper(folder: Path) -> str:
    return Settings.load({}, folder).pepper


def test_processes_that_start_at_once_agree_on_the_pepper(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        peppers = pool.map(load_pepper, [tmp_path] * 16)
    assert len(set(peppers)) == 1


def test_an_empty_pepper_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pepper").touch()
    with pytest.raises(SettingsError, match="empty"):
        Settings.load({}, tmp_path)


@pytest.mark.parametrize(
    ("broker", "events"),
    [
        ("redis://:p@h:1/2", "redis://:p@h:1/2"),
        ("rediss://h", "rediss://h"),
        ("redis+socket:///tmp/a/s?virtual_host=3", "unix:///tmp/a/s?db=3"),
        ("redis+socket://:p@/tmp/a/s", "unix://:p@/tmp/a/s?db=0"),
        ("amqp://u:p@h//", ""),
    ],
)
def test_step_events_go_where_the_broker_is(tmp_path: Path, broker: str, events: str) -> None:
    assert redis_url_of(broker) == events
    assert Settings.load({"GRADKEEL_BROKER_URL": broker}, tmp_path).redis_url == events
    given = {"GRADKEEL_BROKER_URL": broker, "GRADKEEL_REDIS_URL": "redis://other"}
    assert Settings.load(given, tmp_path).redis_url == "redis://other"

"""Configuration: which source wins, what is refused and by which name."""

import math
import re
from pathlib import Path
from typing import Any

import pytest

from thingscale.config import BY_PATH, MQTT_LISTENERS, SETTINGS, ConfigError, Setting, load

NUMBERS = [setting for setting in SETTINGS if setting.kind in (int, float)]
BOUNDED = [setting for setting in NUMBERS if setting.most < 2**62]
CHOICES = [setting for setting in SETTINGS if setting.choices]
POWERS = [setting for setting in SETTINGS if setting.power_of_two]


def file_with(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "thingscale.toml"
    file.write_text(text)
    return file


def path_of(setting: Setting) -> str:
    return setting.path


# ---- precedence


def test_every_default_is_acceptable_and_in_force() -> None:
    config = load(environment={})
    assert {path: config[path] for path in BY_PATH} == {
        setting.path: setting.accept(setting.default) for setting in SETTINGS
    }
    assert set(config.origins.values()) == {"default"}
    assert len(BY_PATH) == len(SETTINGS)


def test_the_file_overrules_the_default_the_environment_the_file_and_the_flag_everything(
    tmp_path: Path,
) -> None:
    file = file_with(tmp_path, '[server]\ndata = "f"\nhttp = "f:1"\nmqtt = "f:2"\n')
    environment = {"THINGSCALE_SERVER_HTTP": "e:1", "THINGSCALE_SERVER_DATA": "e"}
    config = load(file, {"server.data": "x"}, environment)
    assert (config["server.data"], config.origins["server.data"]) == ("x", "flag")
    assert (config["server.http"], config.origins["server.http"]) == ("e:1", "THINGSCALE_SERVER_HTTP")
    assert (config["server.mqtt"], config.origins["server.mqtt"]) == ("f:2", str(file))
    assert (config["log.level"], config.origins["log.level"]) == ("info", "default")


def test_a_flag_that_was_not_given_overrules_nothing() -> None:
    config = load(None, {"server.data": None}, {"THINGSCALE_SERVER_DATA": "e"})
    assert (config["server.data"], config.origins["server.data"]) == ("e", "THINGSCALE_SERVER_DATA")


def test_the_process_environment_counts_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THINGSCALE_LOG_LEVEL", "debug")
    assert load()["log.level"] == "debug"


def test_variables_of_others_are_left_alone() -> None:
    assert load(environment={"THINGS": "1", "thingscale_server_data": "x"})["server.data"] == "data"


def test_a_whole_number_is_taken_where_a_fraction_is_allowed(tmp_path: Path) -> None:
    file = file_with(tmp_path, "[limits]\nconnector_per_s = 0\n")
    value = load(file, environment={"THINGSCALE_LIMITS_REST_PER_S": "5"}).values
    assert (value["limits.connector_per_s"], value["limits.rest_per_s"]) == (0.0, 5.0)
    assert isinstance(value["limits.connector_per_s"], float)


# ---- refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[limits]\npayload_byte_max = 1", "limits.payload_byte_max: no such setting"),
        ("[limit]\npayload_bytes_max = 1", "limit.payload_bytes_max: no such setting"),
        ("[server.http]\nport = 1", "server.http: expected str, not {'port': 1}"),
        ("[server.tls]\nport = 1", "server.tls: no such setting"),
        ('data = "x"', "data: expected a section, as in [data]"),
        ("[server]\ndata = 1", "server.data: expected str, not 1"),
        ('[limits]\npayload_bytes_max = "1"', "limits.payload_bytes_max: expected int, not '1'"),
        ("[limits]\npayload_bytes_max = 1.0", "limits.payload_bytes_max: expected int, not 1.0"),
        ("[limits]\npayload_bytes_max = true", "limits.payload_bytes_max: expected int, not True"),
        ("[limits]\nconnector_per_s = true", "limits.connector_per_s: expected float, not True"),
        ("[limits]\nconnector_per_s = -1", "limits.connector_per_s: -1.0 is not in 0"),
        ("[limits]\nconnector_per_s = nan", "limits.connector_per_s: nan is not in 0"),
        ("[limits]\nconnector_per_s = inf", "limits.connector_per_s: inf is not in 0"),
    ],
)
def test_a_wrong_key_or_value_of_the_file_is_refused_with_its_path(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(message)):
        load(file_with(tmp_path, text), environment={})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("THINGSCALE_SERVER_DATE", "x", "THINGSCALE_SERVER_DATE: no such setting"),
        ("THINGSCALE_", "x", "THINGSCALE_: no such setting"),
        ("THINGSCALE_QUERY_THREADS", "two", "query.threads: expected int, not 'two' (THINGSCALE_QUERY_THREADS)"),
        ("THINGSCALE_QUERY_THREADS", "", "query.threads: expected int, not ''"),
        ("THINGSCALE_QUERY_THREADS", "1.5", "query.threads: expected int, not '1.5'"),
        ("THINGSCALE_QUERY_THREADS", "0", "query.threads: 0 is not in 1 .. 1024"),
        ("THINGSCALE_LIMITS_REST_PER_S", "nan", "limits.rest_per_s: nan is not in 0"),
        ("THINGSCALE_LOG_LEVEL", "loud", "log.level: expected one of debug, info, warning, error, not 'loud'"),
    ],
)  # fmt: skip
def test_a_wrong_variable_is_refused_with_its_name_or_path(name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(message)):
        load(environment={name: text})


@pytest.mark.parametrize(
    ("content", "reason"), [(b"[server", "Expected ']'"), (b'[server]\ndata = "\xff"', "can't decode")]
)
def test_a_file_that_is_not_toml_is_refused_with_its_name(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    file = tmp_path / "thingscale.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=f"^{re.escape(str(file))}: .*{re.escape(reason)}"):
        load(file, environment={})


def test_a_file_that_is_not_there_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(str(tmp_path / 'none'))}: No such file"):
        load(tmp_path / "none", environment={})


def test_a_wrong_flag_is_refused_with_its_path() -> None:
    with pytest.raises(ConfigError, match=r"^server\.http: expected HOST:PORT, not 'localhost'"):
        load(None, {"server.http": "localhost"}, {})


# ---- bounds


@pytest.mark.parametrize("setting", NUMBERS, ids=path_of)
def test_the_least_value_is_taken_and_one_below_it_is_not(setting: Setting) -> None:
    least = setting.kind(setting.least)
    assert setting.accept(least) == setting.least
    below: Any = least - 1 if setting.kind is int else math.nextafter(least, -math.inf)
    with pytest.raises(ConfigError, match=f"^{re.escape(setting.path)}: .* is not in "):
        setting.accept(below)


@pytest.mark.parametrize("setting", NUMBERS, ids=path_of)
def test_the_most_value_is_taken_and_one_above_it_is_not(setting: Setting) -> None:
    most = setting.kind(setting.most)
    assert setting.accept(most) == setting.most
    above: Any = most + 1 if setting.kind is int else math.nextafter(most, math.inf)
    with pytest.raises(ConfigError, match=f"^{re.escape(setting.path)}: .* is not in "):
        setting.accept(above)


@pytest.mark.parametrize("setting", POWERS, ids=path_of)
def test_a_size_of_the_ring_is_a_power_of_two(setting: Setting) -> None:
    assert setting.accept(setting.default * 2) == setting.default * 2
    with pytest.raises(ConfigError, match=f"^{re.escape(setting.path)}: .* is not a power of two"):
        setting.accept(setting.default + 8)


@pytest.mark.parametrize("setting", CHOICES, ids=path_of)
def test_a_choice_is_one_of_its_words_as_they_are_written(setting: Setting) -> None:
    for choice in setting.choices:
        assert setting.parse(choice) == choice
    for wrong in {setting.default.upper(), f"{setting.default} "} - set(setting.choices):
        with pytest.raises(ConfigError, match=f"^{re.escape(setting.path)}: expected one of "):
            setting.accept(wrong)


@pytest.mark.parametrize(
    ("larger", "smaller", "factor"),
    [
        ("storage.segment_bytes", "storage.batch_bytes_max", 2),
        ("storage.batch_bytes_max", "limits.payload_bytes_max", 2),
        ("storage.batch_bytes_max", "limits.packet_bytes_max", 2),
        ("limits.packet_bytes_max", "limits.payload_bytes_max", 1),
    ],
)
def test_what_contains_another_is_large_enough_for_it(larger: str, smaller: str, factor: int) -> None:
    smallest = max(int(BY_PATH[larger].least), 131_072)
    flags = {"limits.packet_bytes_max": 65_536, "limits.payload_bytes_max": 16_384}
    flags |= {larger: smallest, smaller: smallest // factor}
    assert load(None, flags, {})[larger] == smallest
    with pytest.raises(ConfigError, match=f"^{re.escape(larger)}: must be at least .*{re.escape(smaller)}"):
        load(None, {**flags, smaller: smallest // factor + 1}, {})


# ---- addresses


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("localhost:0", "localhost", 0),
        (":1883", "0.0.0.0", 1883),
        ("[::1]:65535", "::1", 65_535),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    assert load(None, {"server.http": text}, {}).address("server.http") == (host, port)


@pytest.mark.parametrize("text", ["", "localhost", "h:", "h:http", "h:-1", "h:65536", "h:８０", "h: 80"])
def test_what_is_not_an_address_is_refused(text: str) -> None:
    for path in ("server.http", "server.mqtt"):
        with pytest.raises(ConfigError, match=f"^{re.escape(path)}: expected HOST:PORT"):
            load(None, {path: text}, {})


@pytest.mark.parametrize("path", MQTT_LISTENERS)
def test_clients_without_credentials_stay_on_this_machine_unless_that_is_meant(path: str) -> None:
    environment = {
        "THINGSCALE_MQTT_ANONYMOUS": "U000001",
        "THINGSCALE_" + path.replace(".", "_").upper(): "0.0.0.0:0",
        "THINGSCALE_TLS_CERTIFICATE": "c.pem",
        "THINGSCALE_TLS_KEY": "k.pem",
    }
    with pytest.raises(ConfigError, match=f"mqtt.anonymous: everybody who reaches {path}"):
        load(environment=environment)
    load(environment={**environment, "THINGSCALE_MQTT_ANONYMOUS_ANYWHERE": "yes"})
    load(environment={name: value.replace("0.0.0.0", "127.0.0.1") for name, value in environment.items()})


def test_a_list_is_one_of_texts_and_has_commas_in_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "thingscale.toml"
    file.write_text('[mqtt]\nwebsocket_origins = ["https://a.example", "http://b.example:81"]\n')
    assert load(file, {}, {})["mqtt.websocket_origins"] == ["https://a.example", "http://b.example:81"]
    variable = {"THINGSCALE_MQTT_WEBSOCKET_ORIGINS": "https://a.example, http://b.example:81,"}
    assert load(None, {}, variable)["mqtt.websocket_origins"] == ["https://a.example", "http://b.example:81"]
    for wrong in ('"https://a.example"', "[1]"):
        file.write_text(f"[mqtt]\nwebsocket_origins = {wrong}\n")
        with pytest.raises(ConfigError, match=r"^mqtt\.websocket_origins: expected "):
            load(file, {}, {})


@pytest.mark.parametrize("name", ["THINGSCALE_URL", "THINGSCALE_TOKEN", "THINGSCALE_ADMIN_TOKEN"])
def test_what_commands_speak_to_is_no_setting_and_no_mistake(name: str) -> None:
    assert load(environment={name: "x"}).values == load(environment={}).values
    with pytest.raises(ConfigError):
        load(environment={f"{name}X": "x"})

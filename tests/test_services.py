"""The table of services, ``Config``, the flags, the metrics and the reference pages agree."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from prometheus_client import CollectorRegistry
from twisted.internet.task import Clock

from netsvc import Config, DatagramService, StreamFactory, StreamService, Terms, netsvc_service
from netsvc.errors import flag_of
from netsvc.limits.cause import Cause
from netsvc.server.config import DEFAULTS, SERVICE_NAMES, SETTINGS
from netsvc.server.metrics import ServiceCollector
from netsvc.server.services import SERVICES, ServiceRow, SharedParts
from netsvc.server.tap import Options
from netsvc.testing import Network

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """docs/generate.py."""
    spec = importlib.util.spec_from_file_location("generate", REFERENCE.parent / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_row_has_a_field_with_listening_strings_and_each_such_field_a_row() -> None:
    assert {row.name for row in SERVICES} == set(SERVICE_NAMES)


@pytest.mark.parametrize("row", SERVICES, ids=lambda row: row.name)
def test_a_row_builds_what_its_transports_need(row: ServiceRow) -> None:
    terms, config = Terms.on(Clock()), Config()
    transports = SETTINGS[row.name].transports
    assert (row.streams is not None, row.datagrams is not None) == ("stream" in transports, "datagram" in transports)
    assert transports
    if row.streams is not None:
        assert isinstance(row.streams(terms, config, SharedParts()), StreamFactory)
    if row.datagrams is not None:
        assert isinstance(row.datagrams(terms, config)(), DatagramService)


def test_the_settings_of_a_row_exist() -> None:
    for row in SERVICES:
        assert set(row.settings) <= set(SETTINGS)
        assert {row.idle_timeout, *row.connect_rates, *([row.max_size] if row.max_size else [])} <= set(SETTINGS)


def test_each_setting_has_a_flag_with_its_meaning_and_each_flag_a_setting() -> None:
    text = " ".join(str(Options()).split())
    for name, setting in SETTINGS.items():
        assert flag_of(name) in text
        assert setting.meaning in text
    flags = set(re.findall(r"^ {6}(--[a-z-]+)", str(Options()), re.MULTILINE))
    assert flags == {flag_of(name) for name in SETTINGS} | {"--help", "--version"}


@pytest.mark.parametrize("row", SERVICES, ids=lambda row: row.name)
def test_each_service_is_a_scope_a_listener_and_a_label(network: Network, row: ServiceRow) -> None:
    name = row.name
    config = Config(allow=[f"{name}=10.0.0.0/8"], **{name: ["7"]})  # type: ignore[arg-type]
    assert not config.networks(name).allows("192.0.2.1")
    assert all(config.networks(other).allows("192.0.2.1") for other in SERVICE_NAMES if other != name)
    service = netsvc_service(network.host("host").reactor, config)
    assert [counters.service for counters in service.counters] == [name]
    listeners = [part for child in service for part in (child if isinstance(child, StreamService) else [child])]
    assert len(listeners) == len(SETTINGS[name].transports)
    service.counters[0].refuse(Cause.NOT_ALLOWED, "192.0.2.1")
    registry = CollectorRegistry()
    registry.register(ServiceCollector(service))
    assert registry.get_sample_value("netsvc_refused_total", {"service": name, "cause": "not_allowed"}) == 1


@pytest.mark.parametrize("page", ["flags.md", "metrics.md", "chat-over-websocket.md"])
def test_the_generated_page_is_up_to_date(generator: ModuleType, page: str) -> None:
    assert (REFERENCE / page).read_text() == generator.page(page), "run python docs/generate.py"


def test_the_json_schema_of_the_messages_is_up_to_date(generator: ModuleType) -> None:
    assert (REFERENCE / "chat-schema.json").read_text() == generator.schema(), "run python docs/generate.py"


def test_default_text_is_set_if_the_default_is_none_or_empty() -> None:
    for name, setting in SETTINGS.items():
        assert setting.default_text or DEFAULTS[name] not in (None, ()), name


def test_each_cause_has_a_label_of_its_own_and_a_sentence_in_ascii() -> None:
    labels = [cause.label for cause in Cause]
    assert len(labels) == len(set(labels))
    for cause in Cause:
        assert cause.label == cause.name.lower()
        assert cause.sentence.isascii()
        assert "\n" not in cause.sentence

"""These tests need the option ``netsvc_global_reactor``. ``tests/test_global_reactor.py`` runs them with it."""

from __future__ import annotations

import pytest


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    return None if config.getini("netsvc_global_reactor") else True

"""These tests need the option ``netsvc_global_reactor``. ``tests/test_pytest_plugin.py`` runs them with it.

If the environment variable ``NETSVC_TRACES`` names a folder, the trace of each test is written to it. Two runs must
write the same, also with another ``PYTHONHASHSEED`` and on another Python. Traces with TLS or SSH are not written:
their bytes differ.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from twisted.internet import ssl

from netsvc.testing import Host, Network
from netsvc.testing.trace import ENCRYPTION_BEGINS


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    return None if config.getini("netsvc_global_reactor") else True


@pytest.fixture(autouse=True)
def _written_trace(request: pytest.FixtureRequest, network: Network) -> Iterator[None]:
    yield
    folder = os.environ.get("NETSVC_TRACES")
    trace = str(network.trace)
    if folder and ENCRYPTION_BEGINS not in trace:
        Path(folder, re.sub(r"\W+", "_", request.node.name)).write_text(trace)


@pytest.fixture
def server(network: Network) -> Host:
    return network.host("server")


@pytest.fixture
def client(network: Network) -> Host:
    return network.host("client")


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def trust(authority: trustme.CA) -> Any:
    """The authority of the certificate, which a client trusts."""
    return ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(authority.cert_pem.bytes())])


@pytest.fixture(scope="session")
def certificate(authority: trustme.CA) -> ssl.PrivateCertificate:
    """A certificate of the server. All signatures of its key have the same length."""
    pem = authority.issue_cert("server", key_type=trustme.KeyType.RSA).private_key_and_cert_chain_pem.bytes()
    loaded: ssl.PrivateCertificate = ssl.PrivateCertificate.loadPEM(pem)
    return loaded

"""Assembles the store and the directory of a chat on Redis. It needs the extra ``redis``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from twisted.internet.ssl import trustRootFromCertificates

from netsvc.chat.names import Names
from netsvc.chat.redis_directory import RedisDirectory
from netsvc.chat.redis_directory_scripts import DIRECTORY_SCRIPTS
from netsvc.chat.redis_log_scripts import LOG_SCRIPTS
from netsvc.chat.redis_node import RedisNode, client_maker
from netsvc.chat.redis_store import RedisStore
from netsvc.errors import ConfigError
from netsvc.net.server_tls import CertificateError, load_certificates
from netsvc.net.store_counters import StoreCounters
from netsvc.net.terms import Terms
from netsvc.redis.redis_address import RedisAddress, RedisCredentials, credentials_from, parse_credentials
from netsvc.redis.redis_endpoint import redis_endpoint
from netsvc.server.config import Config
from netsvc.server.setting_files import read_setting_file


def redis_chat(
    terms: Terms, config: Config, names: Names, address: RedisAddress, environment: Mapping[str, str] | None = None
) -> tuple[RedisStore, RedisDirectory]:
    """Return the store and the directory of a chat on Redis. They share a node.

    :param environment: the variables of the environment; by default those of the process.
    :raises ConfigError: for a file that cannot be read or has no meaning.
    """
    credentials = _credentials(config, os.environ if environment is None else environment)
    endpoint = redis_endpoint(terms.clock, address, _authorities(config))
    scripts = (*LOG_SCRIPTS, *DIRECTORY_SCRIPTS)
    new_client = client_maker(terms.clock, endpoint, credentials, address.database)
    node = RedisNode(terms.clock, terms.monotonic, new_client, scripts, name=address.name)
    bounds: dict[str, Any] = {"entries_max": config.chat_history_max, "age_max": config.chat_history_age}
    terms.counters.store = StoreCounters("redis")
    store = RedisStore(node, terms.clock, terms.wall, counters=terms.counters.store, **bounds)
    return store, RedisDirectory(node, terms.clock, terms.wall, names, **bounds)


def _credentials(config: Config, environment: Mapping[str, str]) -> RedisCredentials | None:
    file = config.chat_store_credentials
    if file is None:
        return credentials_from(environment)
    setting = "chat_store_credentials"
    text = read_setting_file(setting, file, "UTF-8", "one line, the password or USER:PASSWORD")
    return parse_credentials(text, setting)


def _authorities(config: Config) -> Any:
    file = config.chat_store_ca
    if file is None:
        return None
    try:
        return trustRootFromCertificates(load_certificates(file))
    except CertificateError as e:
        problem, remedy = str(e), "name a PEM file with the certificates of authorities"
        raise ConfigError("chat_store_ca", file, problem, remedy) from None

"""The assembled server: configuration, services, metrics, signals, and the plugin of ``twist``."""

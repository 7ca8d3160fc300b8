"""vnetd: a daemon that keeps virtual networks, ports and filters of one Linux host as desired."""

__version__ = "0.1.0"

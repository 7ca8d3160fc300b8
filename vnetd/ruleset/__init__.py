"""Compiles what a user wants of packets into nftables values (``plan.rules``)."""

"""The real host: rtnetlink, nftables, taps, sysctls, dnsmasq processes and files behind the protocols of ``host``."""

"""dnsmasq as data: its configuration rendered from the model, its lease database parsed. Pure."""

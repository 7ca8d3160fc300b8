"""The D-Bus front end: authorises, decodes, calls a service, encodes. Decides nothing about networks."""

"""vnetctl: the command line of vnetd. Speaks D-Bus only; start-up time is why heavy modules are imported late."""

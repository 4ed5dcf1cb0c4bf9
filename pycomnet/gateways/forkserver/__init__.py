"""The near end of the fork server: an interpreter on a machine that forks its gateways."""

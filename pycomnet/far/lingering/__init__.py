"""A far side whose program may go: what another program needs to go on (popen gateways only)."""

"""The fork server: it forks, watches and ends workers, and forwards to inner hops."""

"""Text that people read: logs, and what came from elsewhere made fit to be shown."""

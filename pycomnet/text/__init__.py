"""Text that people read: logs, and text of other processes made safe to show."""

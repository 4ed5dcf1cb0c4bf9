"""rsync: makes directories elsewhere equal to one here, or one here to one elsewhere."""

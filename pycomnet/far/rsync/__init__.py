"""The far side's part of rsync. It is sent when it is first needed, as ``_pycomnet_rsync``."""

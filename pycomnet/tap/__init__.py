"""The service makers, one module for each twistd plugin."""

"""Distributes work among gateways: a work queue, a scheduler, and the loop at the far side."""

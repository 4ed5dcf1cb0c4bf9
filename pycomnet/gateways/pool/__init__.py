"""Work that is shared out among gateways: a queue, a scheduler, and the loop at the far side."""

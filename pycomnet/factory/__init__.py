"""The local factory service: far sides that outlive the programs that use them."""

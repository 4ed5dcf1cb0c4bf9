"""Services: interfaces with methods, the server that they run in, and what calls them."""

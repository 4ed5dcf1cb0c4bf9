"""Services: interfaces with methods, the server that runs them, and the client that calls them."""

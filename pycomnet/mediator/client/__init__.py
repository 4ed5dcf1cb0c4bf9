"""The client's end of the HTTP interface: it starts far sides on a server."""

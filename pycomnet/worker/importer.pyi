MARKER: bytes
NAME: str

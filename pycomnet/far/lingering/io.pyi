BEGIN: bytes
LEAVE: bytes
READ: bytes
BACK: bytes

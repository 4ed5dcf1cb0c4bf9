"""The http mediator: a server that runs far sides for those who reach it through HTTP."""

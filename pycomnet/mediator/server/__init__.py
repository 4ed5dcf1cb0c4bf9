"""The mediator's server: it runs far sides for clients that reach it through HTTP."""

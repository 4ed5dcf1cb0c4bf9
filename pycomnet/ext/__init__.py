"""Extensions of services: each is of use by itself, and none is needed for the others."""

"""The tools whose logs are read: a module each, whose ``FORMAT`` is found by being here."""

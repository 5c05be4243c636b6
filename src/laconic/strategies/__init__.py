"""How one question is put to a model: `calls` makes one call, or two for an estimated budget."""

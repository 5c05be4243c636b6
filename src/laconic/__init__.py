"""laconic makes reasoning models brief, and proves it."""

"""It asks a server behind this one, which a command started or which runs elsewhere."""

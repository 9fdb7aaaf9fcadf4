"""It holds the commands of the command line, one module each."""

"""The command line: one module a group of commands; each loads on use."""

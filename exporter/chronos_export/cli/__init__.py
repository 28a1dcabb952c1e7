"""The command line: arguments, console, exit codes."""

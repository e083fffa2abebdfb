"""The shell. Importing it imports click and nothing heavy: what a command needs, it imports when it runs."""

from onebound.cli.shell import main

__all__ = ["main"]

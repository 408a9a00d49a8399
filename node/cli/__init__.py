"""The command line, ``creditmesh``: see `node.cli.app`."""

from node.cli.app import main

__all__ = ["main"]

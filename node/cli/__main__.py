"""``python -m node.cli``: the same as ``creditmesh``."""

from node.cli import main

main()

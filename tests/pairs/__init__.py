"""Every kind of operation against every other, in two real regions that do not see each other: docs/internals/pairs.md.

    python -m tests.pairs > docs/internals/pairs.md

`scenes` is what the two can contend for, `clash` lets one pair happen in one scene, `page` tells what came of all.
"""

"""The HTTP interface of a region's node."""

from node.api.facade import Unavailable
from node.api.server import build_server

__all__ = ["Unavailable", "build_server"]

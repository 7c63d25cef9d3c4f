"""The fleet's earlier tracks, in which passages are found: what `--history` names, read at the start and then anew.

sources    what `--history` names: a recording, an archive, or a topic
recorded   the pings of a recording or an archive
topic      the pings that a topic still has
renewing   reads them again every so often, while the service runs
pings      pings as columns, of which the newest are kept
"""

from stream.services.arrivals.history.renewing import Renewing
from stream.services.arrivals.history.sources import History, history_of

__all__ = ["History", "Renewing", "history_of"]

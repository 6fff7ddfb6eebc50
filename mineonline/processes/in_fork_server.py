"""Imported by a fork server before anything else, and by nobody else: ties it to its collector (see `fork_server`)."""

import os
import signal

from mineonline.processes.fork_server import OWNER_VARIABLE, SERVER_VARIABLE
from mineonline.processes.lifetimes import die_with_parent

die_with_parent(int(os.environ[OWNER_VARIABLE]))
os.environ[SERVER_VARIABLE] = str(os.getpid())
# a terminal or a cluster may send them to all processes at once, but only the collector ends the others in order
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
# numpy would start a thread for each core when it is imported, and what forks should have only one
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

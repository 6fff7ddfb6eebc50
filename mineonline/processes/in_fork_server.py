"""Imported by a fork server before anything else, and by nobody else: ties it to its collector (see `fork_server`)."""

import os
import signal

from mineonline.processes.fork_server import OWNER_VARIABLE, SERVER_VARIABLE
from mineonline.processes.lifetimes import die_with_parent

die_with_parent(int(os.environ[OWNER_VARIABLE]))
os.environ[SERVER_VARIABLE] = str(os.getpid())
# a cluster may send it to all processes at once, but only the collector ends the others in order; SIGINT is ignored
signal.signal(signal.SIGTERM, signal.SIG_IGN)

"""Callbacks that write to the terminal in every way there is, or keep the learner busy."""

import logging
import os
import subprocess
import sys
import time
import warnings

import lightning

_old_stderr = sys.stderr


class WritesEverywhere(lightning.Callback):
    """After the second iteration. Each line is long enough to be spoilt by a panel that is drawn over it."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx != 1:
            return
        print(self.line("print"))
        print(self.line("print to stderr"), file=sys.stderr)
        print(self.line("the old stderr"), file=_old_stderr, flush=True)
        os.write(2, f"{self.line('C code')}\n".encode())
        subprocess.run(["sh", "-c", f"echo '{self.line('another process')}'"], check=True)
        logging.getLogger("mineonline.tests").warning(self.line("a warning in the log"))
        warnings.warn(self.line("a warning of Python's, which goes to the log file only"), stacklevel=1)

    @staticmethod
    def line(name):
        return f"<<< {name}: {'.' * 20} >>>"


class KeepsTheLearnerBusy(lightning.Callback):
    """For `busy_s` seconds in the second iteration, without ever waiting."""

    def __init__(self, busy_s):
        self.busy_s = busy_s

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == 1:
            print("<<< busy >>>")
            until = time.monotonic() + self.busy_s
            while time.monotonic() < until:
                pass
            print("<<< free >>>")

"""Changes of the canary's share while a proxy is under load, another each second."""

import threading
import time

from peers import ChangeError, with_share
from scenarios import CHANGE_SECONDS, CHANGING_SHARES


class Changer(threading.Thread):
    """Changes it until it is stopped, beginning at once. Knows which share ought to have been in force when."""

    def __init__(self, peer, setup, program, directory):
        super().__init__(daemon=True)
        self.peer, self.setup, self.program, self.directory = peer, setup, program, directory
        self.stopping = threading.Event()
        self.made = []  # (time, share)
        self.problem = None
        self.start()

    def run(self):
        due = time.monotonic()
        while not self.stopping.is_set():
            share = CHANGING_SHARES[len(self.made) % len(CHANGING_SHARES)]
            try:
                self.peer.change(with_share(self.setup, share), self.program, self.directory)
            except (ChangeError, OSError) as error:
                self.problem = f"a change failed: {error}"
                return
            self.made.append((time.monotonic(), share))
            due += CHANGE_SECONDS
            self.stopping.wait(max(0, due - time.monotonic()))

    def stop(self):
        self.stopping.set()
        self.join()

    def between(self, begin, end):
        """How many changes were made meanwhile, and the mean of the shares, 0 to 1, over the time."""
        number, area = 0, 0.0
        for (at, share), (until, _) in zip(self.made, [*self.made[1:], (end, 0)]):
            number += begin <= at < end
            area += share / 100 * max(0.0, min(until, end) - max(at, begin))
        return number, area / (end - begin)

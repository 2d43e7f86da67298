"""External methods with the two faults that old applications have.

`leak` keeps what it should give back; `hang` waits for a lock that nobody will ever release, and
takes one thread of the server with it. Four of them are a Zope that accepts every connection and
answers none.
"""

import threading

kept = []
lock = threading.Lock()
lock.acquire()


def leak(self, megabytes="16"):
    """Keeps so much memory for ever."""
    kept.append(bytearray(int(megabytes) * 1024 * 1024))
    return "%d MB are kept" % sum(len(block) // (1024 * 1024) for block in kept)


def wait_for_ever():
    with lock:
        return "this is never said"


def hang(self):
    """Never answers."""
    return wait_for_ever()

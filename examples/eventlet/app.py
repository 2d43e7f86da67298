"""An eventlet server, and a C function that knows nothing of green threads.

All its requests share one thread of the kernel. A call into C that blocks (a database driver, a
resolver, here sleep(3)) blocks them all: the server is alive, its socket takes connections, and
nobody answers.
"""

import ctypes
import os
import socket

import eventlet
from eventlet import wsgi
from eventlet.greenio import GreenSocket


def call_into_c():
    ctypes.CDLL(None).sleep(3600)


def application(environ, start_response):
    if environ["PATH_INFO"] == "/block":
        call_into_c()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d\n" % os.getpid()]


# The socket that holdfast passes on: whoever waits in its queue is answered by the successor.
listener = GreenSocket(socket.socket(fileno=3))
wsgi.server(listener, application, log_output=False)

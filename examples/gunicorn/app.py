"""A WSGI application that leaks: `/leak` keeps 20 MB for ever, in the worker that answers."""

import os

kept = []


def application(environ, start_response):
    if environ["PATH_INFO"] == "/leak":
        kept.append(bytearray(20 * 1024 * 1024))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d\n" % os.getpid()]

"""A mail server for the tests: aiosmtpd, with protection, login and moods by its arguments.

Each mail that it has taken becomes one JSON file in the directory; a file is whole or not there.
Moods are read anew for each command from `mood.json` in the same directory, so that a test can
change them: `{"later": ["a@x"], "refuse": ["b@x"], "refuse_data": true}`.
"""

import argparse
import asyncio
import email
import email.policy
import json
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dir", required=True)
    parser.add_argument("--security", choices=["none", "starttls", "tls"], default="none")
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("--user")
    parser.add_argument("--password")
    parser.add_argument("--mechanism")
    return parser.parse_args()


class Handler:
    def __init__(self, directory):
        self.directory = directory
        self.count = 0

    def mood(self):
        try:
            with open(os.path.join(self.directory, "mood.json")) as file:
                return json.load(file)
        except FileNotFoundError:
            return {}

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        mood = self.mood()
        if address in mood.get("later", []):
            return "451 4.7.1 greylisted, come back later"
        if address in mood.get("refuse", []):
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 fine"

    async def handle_DATA(self, server, session, envelope):
        if self.mood().get("refuse_data"):
            return "554 5.7.1 this looks like spam"
        self.count += 1
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": server.transport.get_extra_info("ssl_object") is not None,
            "login": bool(session.authenticated),
            "headers": {name.lower(): str(value) for name, value in message.items()},
            "body": message.get_content(),
            "raw": envelope.content.decode("ascii"),
        }
        path = os.path.join(self.directory, f"{os.getpid()}-{self.count:06}")
        with open(path + ".new", "w") as file:
            json.dump(mail, file)
        os.rename(path + ".new", path + ".json")
        return "250 2.0.0 queued as " + str(self.count)


def authenticator(user, password):
    def check(server, session, envelope, mechanism, data):
        right = isinstance(data, LoginPassword) and data.login == user and data.password == password
        if right:
            return AuthResult(success=True)
        return AuthResult(success=False, handled=False, message="535 5.7.8 wrong name or password")

    return check


async def main():
    options = parse()
    context = None
    if options.security != "none":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.key)
    handler = Handler(options.dir)
    arguments = {"hostname": "mx.test", "enable_SMTPUTF8": True}
    if options.security == "starttls":
        arguments.update(tls_context=context, require_starttls=True)
    if options.user:
        arguments.update(
            auth_required=True,
            auth_require_tls=options.security == "starttls",
            authenticator=authenticator(options.user.encode(), options.password.encode()),
        )
        others = {"PLAIN", "LOGIN"} - {options.mechanism}
        if options.mechanism:
            arguments.update(auth_exclude_mechanism=others)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(handler, **arguments),
        "127.0.0.1",
        options.port,
        ssl=context if options.security == "tls" else None,
    )
    print("ready", flush=True)
    # The test's end is ours: standard input is its pipe.
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()
    os._exit(0)


asyncio.run(main())

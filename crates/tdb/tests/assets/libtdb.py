"""libtdb as a process of its own, for the tests: it does what each line of its input says.

A line is a JSON object: {"do": NAME, ...}; bytes are written as hexadecimal digits. The answer is a
line as well: {"ok": VALUE}, or {"error": CODE, "text": WORDS} with libtdb's code (for `open`: errno).

Why through ctypes and not by the module `tdb`: that one has neither the locks of single chains nor
the check, and a file can't be opened twice in one process.
"""

import ctypes
import json
import os
import random
import sys
import zlib


class Data(ctypes.Structure):
    _fields_ = [("pointer", ctypes.c_void_p), ("size", ctypes.c_size_t)]


VISITOR = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, Data, Data, ctypes.c_void_p)

lib = ctypes.CDLL("libtdb.so.1", use_errno=True)
libc = ctypes.CDLL(None)
libc.free.argtypes = [ctypes.c_void_p]

HANDLE, INT = ctypes.c_void_p, ctypes.c_int
for name, result, arguments in [
    ("open", HANDLE, [ctypes.c_char_p, INT, INT, INT, ctypes.c_uint]),
    ("close", INT, [HANDLE]),
    ("store", INT, [HANDLE, Data, Data, INT]),
    ("append", INT, [HANDLE, Data, Data]),
    ("delete", INT, [HANDLE, Data]),
    ("fetch", Data, [HANDLE, Data]),
    ("firstkey", Data, [HANDLE]),
    ("nextkey", Data, [HANDLE, Data]),
    ("traverse_read", INT, [HANDLE, VISITOR, ctypes.c_void_p]),
    ("lockall", INT, [HANDLE]),
    ("lockall_nonblock", INT, [HANDLE]),
    ("lockall_read", INT, [HANDLE]),
    ("unlockall", INT, [HANDLE]),
    ("unlockall_read", INT, [HANDLE]),
    ("chainlock", INT, [HANDLE, Data]),
    ("chainlock_nonblock", INT, [HANDLE, Data]),
    ("chainunlock", INT, [HANDLE, Data]),
    ("transaction_start", INT, [HANDLE]),
    ("transaction_prepare_commit", INT, [HANDLE]),
    ("transaction_commit", INT, [HANDLE]),
    ("transaction_cancel", INT, [HANDLE]),
    ("get_seqnum", INT, [HANDLE]),
    ("set_max_dead", None, [HANDLE, INT]),
    ("wipe_all", INT, [HANDLE]),
    ("repack", INT, [HANDLE]),
    ("freelist_size", INT, [HANDLE]),
    ("map_size", ctypes.c_size_t, [HANDLE]),
    ("check", INT, [HANDLE, ctypes.c_void_p, ctypes.c_void_p]),
    ("error", INT, [HANDLE]),
    ("errorstr", ctypes.c_char_p, [HANDLE]),
]:
    function = getattr(lib, "tdb_" + name)
    function.restype, function.argtypes = result, arguments

HOW = {"replace": 1, "insert": 2, "modify": 3}


class Refused(Exception):
    """What libtdb did not do: its code, and its words."""


def data(text):
    # The bytes live as long as the structure that points to them.
    memory = ctypes.create_string_buffer(text, len(text))
    made = Data(ctypes.cast(memory, ctypes.c_void_p), len(text))
    made.memory = memory
    return made


def text(found):
    return ctypes.string_at(found.pointer, found.size) if found.size else b""


def owned(found):
    """The bytes that libtdb has allocated for us; None if there are none."""
    if not found.pointer:
        return None
    copy = text(found)
    libc.free(found.pointer)
    return copy


class Database:
    def __init__(self, path, hash_size, flags, open_flags, mode):
        self.handle = lib.tdb_open(os.fsencode(path), hash_size, flags, open_flags, mode)
        if not self.handle:
            code = ctypes.get_errno()
            raise Refused(code, os.strerror(code))

    def done(self, result):
        if result == -1:
            self.refuse()
        return result

    def refuse(self):
        raise Refused(lib.tdb_error(self.handle), lib.tdb_errorstr(self.handle).decode())

    def store(self, key, value, how="replace"):
        self.done(lib.tdb_store(self.handle, data(key), data(value), HOW[how]))

    def append(self, key, value):
        self.done(lib.tdb_append(self.handle, data(key), data(value)))

    def delete(self, key):
        self.done(lib.tdb_delete(self.handle, data(key)))

    def get(self, key):
        return owned(lib.tdb_fetch(self.handle, data(key)))

    def dump(self):
        records = []

        def visit(_handle, key, value, _state):
            records.append((text(key), text(value)))
            return 0

        self.done(lib.tdb_traverse_read(self.handle, VISITOR(visit), None))
        return records

    def chain_lock(self, key):
        self.done(lib.tdb_chainlock(self.handle, data(key)))

    def chain_unlock(self, key):
        self.done(lib.tdb_chainunlock(self.handle, data(key)))


def sealed(payload):
    """A value that shows whether it is whole: eight digits of a sum, and what it is the sum of."""
    return b"%08x" % zlib.crc32(payload) + payload


def is_whole(value):
    return sealed(value[8:]) == value


class Hammer:
    """Works on a set of keys, of which others work as well, and tells what must have come of it.

    count-N: a number, raised by one under the lock of its chain.
    lines-N: a line is appended.
    any-N:   stored, deleted and fetched; whatever is found has to be whole.
    """

    def __init__(self, database, name, seed, keys, transactions):
        self.database, self.name, self.keys = database, name, keys
        self.transactions = transactions
        self.dice = random.Random(seed)
        self.tally = {"counted": {}, "lines": {}, "torn": 0}
        self.line = 0

    def run(self, operations):
        done = 0
        while done < operations:
            if self.dice.random() < self.transactions:
                done += self.transaction()
            else:
                self.operation(self.tally)
                done += 1
        return self.tally

    def transaction(self):
        inside = {"counted": {}, "lines": {}, "torn": 0}
        call(self.database, lib.tdb_transaction_start)
        size = self.dice.randint(1, 8)
        for _ in range(size):
            self.operation(inside)
        self.tally["torn"] += inside["torn"]
        if self.dice.random() < 0.3:
            call(self.database, lib.tdb_transaction_cancel)
            return size
        if self.dice.random() < 0.5:
            call(self.database, lib.tdb_transaction_prepare_commit)
        call(self.database, lib.tdb_transaction_commit)
        for key, count in inside["counted"].items():
            self.tally["counted"][key] = self.tally["counted"].get(key, 0) + count
        for key, lines in inside["lines"].items():
            self.tally["lines"].setdefault(key, []).extend(lines)
        return size

    def operation(self, tally):
        number = self.dice.randrange(self.keys)
        dice = self.dice.random()
        if dice < 0.25:
            self.count("count-%d" % number, tally)
        elif dice < 0.45:
            self.append("lines-%d" % number, tally)
        elif dice < 0.75:
            payload = self.dice.randbytes(self.dice.choice([0, 1, 20, 100, 700, 3000]))
            self.database.store(b"any-%d" % number, sealed(payload))
        elif dice < 0.85:
            try:
                self.database.delete(b"any-%d" % number)
            except Refused as refused:
                if refused.args[0] != 8:
                    raise
        else:
            value = self.database.get(b"any-%d" % number)
            if value is not None and not is_whole(value):
                tally["torn"] += 1

    def count(self, key, tally):
        self.database.chain_lock(key.encode())
        number = int(self.database.get(key.encode()) or b"0")
        self.database.store(key.encode(), b"%d" % (number + 1))
        self.database.chain_unlock(key.encode())
        tally["counted"][key] = tally["counted"].get(key, 0) + 1

    def append(self, key, tally):
        self.line += 1
        line = "%s %d" % (self.name, self.line)
        self.database.append(key.encode(), line.encode() + b"\n")
        tally["lines"].setdefault(key, []).append(line)


CALLS = {
    "lock_all": lib.tdb_lockall,
    "try_lock_all": lib.tdb_lockall_nonblock,
    "unlock_all": lib.tdb_unlockall,
    "lock_all_shared": lib.tdb_lockall_read,
    "unlock_all_shared": lib.tdb_unlockall_read,
    "transaction_start": lib.tdb_transaction_start,
    "transaction_prepare": lib.tdb_transaction_prepare_commit,
    "transaction_commit": lib.tdb_transaction_commit,
    "transaction_cancel": lib.tdb_transaction_cancel,
    "wipe": lib.tdb_wipe_all,
    "repack": lib.tdb_repack,
    "free_list_size": lib.tdb_freelist_size,
}


def call(database, function):
    return database.done(function(database.handle))


class Peer:
    def __init__(self):
        self.database = None
        self.cursor = None

    def obey(self, order):
        word = order["do"]
        key = bytes.fromhex(order.get("key", ""))
        value = bytes.fromhex(order.get("value", ""))
        database = self.database
        if word == "open":
            self.database = Database(*order["arguments"])
        elif word == "close":
            self.database = None
            return lib.tdb_close(database.handle)
        elif word in CALLS:
            return call(database, CALLS[word])
        elif word == "store":
            return database.store(key, value, order["how"])
        elif word == "append":
            return database.append(key, value)
        elif word == "delete":
            return database.delete(key)
        elif word == "get":
            found = database.get(key)
            return None if found is None else found.hex()
        elif word == "dump":
            return [[key.hex(), value.hex()] for key, value in database.dump()]
        elif word == "chain_lock":
            return database.chain_lock(key)
        elif word == "try_chain_lock":
            return database.done(lib.tdb_chainlock_nonblock(database.handle, data(key)))
        elif word == "chain_unlock":
            return database.chain_unlock(key)
        elif word == "first_key":
            self.cursor = owned(lib.tdb_firstkey(database.handle))
            return self.cursor is not None
        elif word == "next_key":
            self.cursor = owned(lib.tdb_nextkey(database.handle, data(self.cursor)))
            return self.cursor is not None
        elif word == "sequence":
            return lib.tdb_get_seqnum(database.handle)
        elif word == "max_dead":
            return lib.tdb_set_max_dead(database.handle, order["count"])
        elif word == "size":
            return lib.tdb_map_size(database.handle)
        elif word == "check":
            return lib.tdb_check(database.handle, None, None) == 0
        elif word == "hammer":
            hammer = Hammer(
                database, order["name"], order["seed"], order["keys"], order["transactions"]
            )
            return hammer.run(order["operations"])
        else:
            raise ValueError("nobody knows how to do " + word)
        return None


peer = Peer()
for line in sys.stdin:
    try:
        answer = {"ok": peer.obey(json.loads(line))}
    except Refused as refused:
        answer = {"error": refused.args[0], "text": refused.args[1]}
    print(json.dumps(answer), flush=True)

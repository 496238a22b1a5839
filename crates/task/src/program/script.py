# Runs the tests; the program is elsewhere. Speaks frames on descriptor 0: length, kind, JSON.
import builtins
import json
import os


class FromProgram:
    """The error that the program raised in the last call, if it raised."""

    last = None


class Unpassable(BaseException):
    """The fault of a test. No `except Exception` of a test takes it for an answer."""


class Opaque:
    """Stands for an object of the program: true or false, and equal to nothing."""

    def __init__(self, name, truth):
        self.name, self.truth = name, truth is True

    def __bool__(self):
        return self.truth

    def __repr__(self):
        return "<a " + str(self.name) + ">"


def receive():
    def exactly(count):
        data = b""
        while len(data) < count:
            more = os.read(0, min(count - len(data), 1 << 20))
            if not more:
                os._exit(0)
            data += more
        return data

    length = int.from_bytes(exactly(4), "little")
    data = exactly(length)
    return data[:1], data[1:]


def send(kind, value):
    data = kind + json.dumps(value).encode()
    data = len(data).to_bytes(4, "little") + data
    while data:
        data = data[os.write(0, data):]


def encode(value):
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, complex):
        return ["c", value.real, value.imag]
    if isinstance(value, (bytes, bytearray)):
        return ["b", bytes(value).hex()]
    if isinstance(value, dict):
        return ["d", [[encode(k), encode(v)] for k, v in value.items()]]
    for name, types in (("l", list), ("t", tuple), ("s", set), ("f", frozenset), ("l", range)):
        if isinstance(value, types):
            return [name, [encode(item) for item in value]]
    raise Unpassable("a test passes a " + type(value).__name__ + " to the program")


def decode(value):
    if not isinstance(value, list):
        return value
    kind, rest = value[0], value[1]
    if kind == "d":
        return {decode(k): decode(v) for k, v in rest}
    if kind == "b":
        return bytes.fromhex(rest)
    if kind == "c":
        return complex(rest, value[2])
    if kind == "o":
        return Opaque(rest, value[2])
    items = [decode(item) for item in rest]
    return {"l": list, "t": tuple, "s": set, "f": frozenset, "i": iter}[kind](items)


def call(name, arguments, named):
    FromProgram.last = None
    send(b"C", [name, encode(list(arguments)), encode(named)])
    kind, data = receive()
    value = json.loads(data)
    if kind == b"V":
        return decode(value)
    known = getattr(builtins, value[1], None)
    if not (isinstance(known, type) and issubclass(known, Exception)):
        known = RuntimeError
    try:
        error = known(value[2])
    except TypeError:
        error = RuntimeError(value[2])
    FromProgram.last = error
    raise error


def report(index, kind, detail):
    send(b"T", [index, kind, detail])


def main():
    send(b"R", None)
    kind, data = receive()
    names = {"__name__": "tests", "elenchus_call": call, "elenchus_report": report}
    try:
        exec(compile(json.loads(data), "tests", "exec"), names)
    except BaseException as error:
        send(b"E", [type(error).__name__ + ": " + str(error)[:500], error is FromProgram.last])
    else:
        send(b"D", None)


main()

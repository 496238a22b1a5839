# Holds the program under test. Speaks frames on a socket: length, kind, JSON.
import json
import os

# The channel moves away, so that a program that reads its input finds nothing.
CHANNEL = os.dup(0)
try:
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
except OSError:
    os.close(0)


def receive():
    def exactly(count):
        data = b""
        while len(data) < count:
            more = os.read(CHANNEL, min(count - len(data), 1 << 20))
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
        data = data[os.write(CHANNEL, data):]


def encode(value, depth=0):
    if depth > 100:
        raise ValueError("the returned value is nested too deeply")
    if value is None or value is True or value is False:
        return value
    kind = type(value)
    if kind in (int, float, str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, complex):
        return ["c", value.real, value.imag]
    if isinstance(value, (bytes, bytearray)):
        return ["b", bytes(value).hex()]
    if isinstance(value, dict):
        return ["d", [[encode(k, depth + 1), encode(v, depth + 1)] for k, v in value.items()]]
    for name, types in (("l", list), ("t", tuple), ("s", set), ("f", frozenset)):
        if isinstance(value, types):
            return [name, [encode(item, depth + 1) for item in value]]
    if hasattr(value, "__next__") or type(value).__name__ in (
        "range", "dict_keys", "dict_values", "dict_items", "deque", "array",
    ):
        return ["l" if not hasattr(value, "__next__") else "i", [encode(item, depth + 1) for item in value]]
    # An object with behaviour does not cross; what a condition would see of it does.
    return ["o", kind.__name__[:100], bool(value)]


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
    items = [decode(item) for item in rest]
    return {"l": list, "t": tuple, "s": set, "f": frozenset, "i": iter}[kind](items)


def describe(error):
    try:
        text = str(error)[:500]
    except BaseException:
        text = ""
    for base in type(error).__mro__:
        if base.__module__ == "builtins":
            return [type(error).__name__, base.__name__, text]
    return [type(error).__name__, "Exception", text]


def main():
    send(b"R", None)
    names = {"__name__": "program", "__builtins__": __builtins__}
    while True:
        kind, data = receive()
        try:
            if kind == b"P":
                text = json.loads(data)
                try:
                    code = compile(text, "program", "exec")
                except (SyntaxError, ValueError) as error:
                    send(b"S", describe(error))
                    continue
                exec(code, names)
                send(b"V", None)
            elif kind == b"C":
                name, arguments, named = json.loads(data)
                result = names[name](*decode(arguments), **decode(named))
                send(b"V", encode(result))
        except BaseException as error:
            send(b"X", describe(error))


main()

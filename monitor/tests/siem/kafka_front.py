"""TLS and logging in (SASL) before the brokers of `kafka_broker.py`, which have neither.

kafka_front.py CERTIFICATE KEY MECHANISM USER PASSWORD BROKER…

Prints the addresses of its own ports, one for each broker, and serves until its input ends. What a client sends is handed on
once it has logged in; MECHANISM - lets everybody in. The other side of SCRAM is the package `scramp`.
"""

import os
import socket
import ssl
import struct
import sys
import threading

from scramp import ScramException, ScramMechanism

API_VERSIONS, HANDSHAKE, AUTHENTICATE = 18, 17, 36
NO_SUCH_MECHANISM, AUTHENTICATION_FAILED = 33, 58


def exactly(stream, count):
    data = b""
    while len(data) < count:
        part = stream.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def read(stream):
    return exactly(stream, struct.unpack(">i", exactly(stream, 4))[0])


def write(stream, data):
    stream.sendall(struct.pack(">i", len(data)) + data)


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


def with_logins(answer, version):
    """The broker's answer on what it can, and the two requests of a login."""
    more = [(HANDSHAKE, 0, 1), (AUTHENTICATE, 0, 1)]
    head, rest = answer[:6], answer[6:]
    if version < 3:
        (count,) = struct.unpack(">i", rest[:4])
        own = b"".join(struct.pack(">hhh", *one) for one in more)
        return head + struct.pack(">i", count + len(more)) + rest[4 : 4 + 6 * count] + own + rest[4 + 6 * count :]
    # A compact array: its length and one as a variable number, which here stays below 128.
    count = rest[0] - 1
    assert 0 <= count < 120, count
    own = b"".join(struct.pack(">hhhB", *one, 0) for one in more)
    return head + bytes([count + len(more) + 1]) + rest[1 : 1 + 7 * count] + own + rest[1 + 7 * count :]


class Login:
    def __init__(self, mechanism, user, password):
        self.mechanism, self.user, self.password = mechanism, user, password
        if mechanism.startswith("SCRAM"):
            self.scram = ScramMechanism(mechanism)
            self.known = self.scram.make_auth_info(password, iteration_count=4096)

    def begin(self):
        self.done = self.mechanism == "-"
        self.server = None

    def step(self, data):
        """The answer to what the client says, or None if it is not who it says it is."""
        if self.mechanism == "PLAIN":
            self.done = data == b"\0".join([b"", self.user.encode(), self.password.encode()])
            return b"" if self.done else None
        try:
            if self.server is None:
                self.server = self.scram.make_server(lambda user: self.known if user == self.user else 1 / 0)
                self.server.set_client_first(data.decode())
                return self.server.get_server_first().encode()
            self.server.set_client_final(data.decode())
            answer = self.server.get_server_final()
            self.done = answer.startswith("v=")
            return answer.encode() if self.done else None
        except (ScramException, ZeroDivisionError):
            return None


def converse(client, broker, ports, login):
    server = socket.create_connection(broker)
    logins = Login(*login)
    logins.begin()
    while True:
        request = read(client)
        key, version, number = struct.unpack(">hhi", request[:8])
        if key == API_VERSIONS:
            write(server, request)
            answer = read(server)
            write(client, with_logins(answer, version) if answer[4:6] == b"\0\0" else answer)
        elif key == HANDSHAKE:
            (length,) = struct.unpack(">h", request[8:10])
            rest = request[10 + max(length, 0) :]
            wanted = rest[2:].decode()
            code = 0 if wanted == logins.mechanism else NO_SUCH_MECHANISM
            write(client, struct.pack(">ihi", number, code, 1) + text(logins.mechanism))
        elif key == AUTHENTICATE:
            (length,) = struct.unpack(">h", request[8:10])
            answer = logins.step(request[10 + max(length, 0) + 4 :])
            code, answer = (0, answer) if answer is not None else (AUTHENTICATION_FAILED, b"")
            body = struct.pack(">ihhi", number, code, -1, len(answer)) + answer
            write(client, body + (struct.pack(">q", 0) if version >= 1 else b""))
        elif not logins.done:
            # As Kafka does with who has not logged in.
            return
        else:
            write(server, request)
            answer = read(server)
            for own, other in ports.items():
                # Brokers tell their addresses: clients are to come through here to all of them.
                host = b"127.0.0.1"
                answer = answer.replace(host + struct.pack(">i", other), host + struct.pack(">i", own))
            write(client, answer)


def serve(listener, context, *rest):
    def one(plain):
        try:
            with context.wrap_socket(plain, server_side=True) as client:
                converse(client, *rest)
        except (EOFError, OSError):
            pass

    while True:
        plain, _ = listener.accept()
        threading.Thread(target=one, args=(plain,), daemon=True).start()


def main():
    certificate, key, mechanism, user, password, *brokers = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in brokers]
    addresses = [(host, int(port)) for host, port in (broker.rsplit(":", 1) for broker in brokers)]
    own = [listener.getsockname()[1] for listener in listeners]
    ports = dict(zip(own, (port for _, port in addresses)))
    for listener, broker in zip(listeners, addresses):
        arguments = (listener, context, broker, ports, (mechanism, user, password))
        threading.Thread(target=serve, args=arguments, daemon=True).start()
    print(",".join(f"127.0.0.1:{port}" for port in own), flush=True)
    sys.stdin.read()
    os._exit(0)


main()

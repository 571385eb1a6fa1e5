"""The other side of the scenario: names, the web site and the collecting server, in the server's network namespace.

Everything that happened is one JSON object a line on standard output. The first line says that every socket listens.
Reads only its arguments; ends when its standard input ends, so it never outlives the test.
"""

import argparse
import http.server
import io
import ipaddress
import json
import os
import socket
import socketserver
import ssl
import struct
import sys
import threading
import time

TYPE_A, TYPE_AAAA = 1, 28


def say(event, **fields):
    """One fact, with the time on the wall clock; a single write, so that threads never mix lines."""
    line = json.dumps({"event": event, "at_ns": time.time_ns(), **fields}) + "\n"
    os.write(sys.stdout.fileno(), line.encode())


class Names(socketserver.BaseRequestHandler):
    """Answers A and AAAA for the scenario's names, NXDOMAIN for everything else (RFC 1035, over UDP)."""

    zone = {}

    def handle(self):
        query, sock = self.request
        identifier, _flags, questions = struct.unpack_from(">HHH", query)
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii", "replace"))
            at += 1 + query[at]
        end = at + 5
        (kind,) = struct.unpack_from(">H", query, at + 1)
        name = ".".join(labels).lower()
        addresses = self.zone.get(name)
        version = {TYPE_A: 4, TYPE_AAAA: 6}.get(kind)
        answers = [address.packed for address in addresses or [] if address.version == version]
        # Authoritative, recursion desired and available; an unknown name is NXDOMAIN, a known one without the type is empty.
        flags = 0x8580 | (0 if addresses else 3)
        reply = struct.pack(">6H", identifier, flags, questions, len(answers), 0, 0) + query[12:end]
        for packed in answers:
            reply += struct.pack(">HHHIH", 0xC00C, kind, 1, 60, len(packed)) + packed
        say("question", name=name, kind={TYPE_A: "A", TYPE_AAAA: "AAAA"}.get(kind, str(kind)), answers=len(answers))
        sock.sendto(reply, self.client_address)


class Site(http.server.BaseHTTPRequestHandler):
    """The web site: files of one folder, and `/done/…`, by which a page says how far it got."""

    protocol_version = "HTTP/1.1"
    folder = ""

    def do_GET(self):  # noqa: N802 (the name is the library's)
        path = self.path.split("?")[0]
        body, status = b"", 404
        if path.startswith("/done/"):
            status = 200
        else:
            try:
                with open(os.path.join(self.folder, os.path.basename(path)), "rb") as file:
                    body, status = file.read(), 200
            except OSError:
                pass
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        say("page", path=self.path, status=status)

    def log_message(self, *_arguments):
        pass


class CountedTls(io.RawIOBase):
    """TLS over a socket that counts the bytes of the TCP stream itself, both ways: what a monitor of the client's host
    has to report, byte for byte."""

    def __init__(self, sock, context, on_first_byte):
        self.sock = sock
        self.on_first_byte = on_first_byte
        self.received = self.sent = 0
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def _flush_out(self):
        data = self.outgoing.read()
        self.sock.sendall(data)
        self.sent += len(data)

    def _pump(self, operation):
        while True:
            try:
                result = operation()
            except ssl.SSLWantReadError:
                self._flush_out()
                data = self.sock.recv(65536)
                if data and not self.received:
                    self.on_first_byte()
                self.received += len(data)
                if data:
                    self.incoming.write(data)
                else:
                    self.incoming.write_eof()
            else:
                self._flush_out()
                return result

    def handshake(self):
        self._pump(self.tls.do_handshake)

    def readable(self):
        return True

    def writable(self):
        return True

    def readinto(self, buffer):
        try:
            data = self._pump(lambda: self.tls.read(len(buffer)))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return 0
        buffer[: len(data)] = data
        return len(data)

    def write(self, data):
        data = bytes(data)
        self._pump(lambda: self.tls.write(data))
        return len(data)

    def drain(self):
        """Reads the stream to its end, so that nothing the client sent is left uncounted."""
        while True:
            data = self.sock.recv(65536)
            if not data:
                return
            self.received += len(data)


class Collector(http.server.BaseHTTPRequestHandler):
    """The collecting server: takes any POST, and reports each TCP connection's bytes when it is over."""

    protocol_version = "HTTP/1.1"
    context = None

    def handle(self):
        host, port = self.client_address[:2]
        peer = {"peer_ip": host, "peer_port": port}
        self.stream = CountedTls(self.connection, self.context, on_first_byte=lambda: say("contact", **peer))
        ended = "closed"
        try:
            self.stream.handshake()
            self.rfile, self.wfile = io.BufferedReader(self.stream), self.stream
            super().handle()
            self.stream.drain()
        except (OSError, ssl.SSLError) as error:
            ended = f"{type(error).__name__}: {error}"
        say("connection", **peer, received_bytes=self.stream.received, sent_bytes=self.stream.sent, ended=ended)

    def do_POST(self):  # noqa: N802 (the name is the library's)
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        reply = b'{"known":true}'
        self.send_response(200)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)
        say("post", path=self.path, body_bytes=len(body), body=body.decode("utf-8", "replace"))

    def do_GET(self):  # noqa: N802 (the name is the library's)
        say("get", path=self.path)
        self.send_error(404)

    def log_message(self, *_arguments):
        pass


class Udp(socketserver.ThreadingUDPServer):
    allow_reuse_address = True
    daemon_threads = True


class Tcp(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


class Tcp6(Tcp):
    address_family = socket.AF_INET6


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dns", required=True, help="IPv4 address of the name server and the site")
    parser.add_argument("--site", required=True, help="folder of the site's pages")
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--name", action="append", default=[], help="NAME=ADDRESS[,ADDRESS…] answered by the name server")
    parser.add_argument("--collect", action="append", default=[], help="address of the collecting server")
    options = parser.parse_args()

    for entry in options.name:
        name, _, addresses = entry.partition("=")
        Names.zone[name] = [ipaddress.ip_address(address) for address in addresses.split(",")]
    Site.folder = options.site
    Collector.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    Collector.context.load_cert_chain(options.certificate, options.key)

    servers = [Udp((options.dns, 53), Names), Tcp((options.dns, 80), Site)]
    for address in options.collect:
        servers.append((Tcp6 if ":" in address else Tcp)((address, 443), Collector))
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    say("ready")
    sys.stdin.read()


if __name__ == "__main__":
    main()

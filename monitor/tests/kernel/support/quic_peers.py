"""A QUIC server and its client, by aioquic: says which version the two agreed on.

Arguments: address, port, server name, certificate, key, the version that the client begins with.
"""

import asyncio
import ssl
import sys

from aioquic.asyncio import connect, serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicProtocolVersion

PROTOCOLS = ["egresswatch-test"]


async def main(address, port, name, certificate, key, first):
    versions = [QuicProtocolVersion.VERSION_2, QuicProtocolVersion.VERSION_1]
    serving = QuicConfiguration(is_client=False, alpn_protocols=PROTOCOLS, supported_versions=versions)
    serving.load_cert_chain(certificate, key)
    asking = QuicConfiguration(
        is_client=True,
        alpn_protocols=PROTOCOLS,
        original_version=QuicProtocolVersion[first],
        server_name=name,
        supported_versions=versions,
        verify_mode=ssl.CERT_NONE,
    )
    server = await serve(address, int(port), configuration=serving)
    async with connect(address, int(port), configuration=asking) as client:
        await client.ping()
        # The library has no public word for it.
        version = client._quic._version
    server.close()
    if version != QuicProtocolVersion.VERSION_2:
        sys.exit(f"the two agreed on version {version:#x}")


asyncio.run(main(*sys.argv[1:]))

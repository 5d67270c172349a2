"""Answers gRPC inferences, every second one slowly; all else that comes to its port is said to be well."""

import asyncio
import itertools
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
from tritonclient.grpc import service_pb2

HTTP2 = b"PRI * HTTP/2.0\r\n"
WELL = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}"


def started(slow_s):
    """The port of a server of inferences."""
    turns = itertools.count()

    def infer(request, context):
        time.sleep(slow_s if next(turns) % 2 else 0)
        return service_pb2.ModelInferResponse(model_name=request.model_name)

    method = grpc.unary_unary_rpc_method_handler(
        infer,
        request_deserializer=service_pb2.ModelInferRequest.FromString,
        response_serializer=service_pb2.ModelInferResponse.SerializeToString,
    )
    service = grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": method})
    server = grpc.server(ThreadPoolExecutor(100))
    server.add_generic_rpc_handlers([service])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


async def carry(reader, writer):
    while data := await reader.read(1 << 16):
        writer.write(data)
    writer.close()


async def serve(slow_s):
    server, port = started(slow_s)

    async def talk(reader, writer):
        head = await reader.readline()
        if head != HTTP2:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(WELL)
            return writer.close()
        from_there, to_there = await asyncio.open_connection("127.0.0.1", port)
        to_there.write(head)
        await asyncio.gather(carry(reader, to_there), carry(from_there, writer))

    door = await asyncio.start_server(talk, "127.0.0.1", 0)
    print(door.sockets[0].getsockname()[1], flush=True)
    await door.serve_forever()
    server.stop(None)


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))

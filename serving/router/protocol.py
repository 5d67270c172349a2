"""The Open Inference Protocol v2 as Triton speaks it: what names a model, asks the server, or manages it.

Source: the `GRPCInferenceService` of Triton's `grpc_service.proto`, and the HTTP extensions in Triton's
protocol documentation (repository, trace, logging, shared memory, statistics, generate).
"""

from __future__ import annotations

SERVICE = "inference.GRPCInferenceService"

SERVER_METHODS = ("ServerLive", "ServerReady", "ServerMetadata")
"""gRPC methods about the server."""

MODEL_METHODS = {
    "ModelInfer": "model_name",
    "ModelStreamInfer": "model_name",
    "ModelReady": "name",
    "ModelMetadata": "name",
    "ModelConfig": "name",
    "ModelStatistics": "name",
}
"""gRPC methods about a model, with the field of the request message that names it."""

INFER_METHOD = "ModelInfer"
"""The one that has a model work once."""

STREAM_METHOD = "ModelStreamInfer"
"""The one whose request never ends by itself."""

MANAGEMENT_METHODS = (
    "RepositoryIndex",
    "RepositoryModelLoad",
    "RepositoryModelUnload",
    "SystemSharedMemoryStatus",
    "SystemSharedMemoryRegister",
    "SystemSharedMemoryUnregister",
    "CudaSharedMemoryStatus",
    "CudaSharedMemoryRegister",
    "CudaSharedMemoryUnregister",
    "TraceSetting",
    "LogSettings",
)
"""gRPC methods that belong to the site's agent alone."""

SERVER_PATHS = ("/v2", "/v2/", "/v2/health/live", "/v2/health/ready", "/v2/models/stats")
"""HTTP paths about the server."""

MANAGEMENT_PATHS = (
    r"/v2/(repository|trace|logging|systemsharedmemory|cudasharedmemory)(/.*)?",
    r"/v2/models/.*/trace(/.*)?",
)
"""HTTP paths (RE2) that belong to the site's agent alone."""


def inference_path(model: str) -> str:
    """RE2 of every HTTP path that has `model` work."""
    return rf"{_model(model)}/(infer|generate|generate_stream)"


def model_path(model: str) -> str:
    """RE2 of every HTTP path that asks about `model`."""
    return rf"{_model(model)}(/(ready|config|stats))?"


def _model(model: str) -> str:
    return rf"/v2/models/{model}(/versions/[0-9]+)?"


def descriptor_set() -> bytes:
    """The service's messages as a serialised `FileDescriptorSet`, from the client library's descriptors."""
    # Imported here because it brings grpc along: half a second that only writing the configuration needs.
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from tritonclient.grpc import model_config_pb2, service_pb2

    found = FileDescriptorSet()
    for module in (model_config_pb2, service_pb2):
        module.DESCRIPTOR.CopyToProto(found.file.add())
    return found.SerializeToString(deterministic=True)

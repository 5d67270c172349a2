"""Takes half a second for each request, and lets one wait."""

import time

import triton_python_backend_utils as triton


class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.5 * len(requests))
        inputs = [triton.get_input_tensor_by_name(request, "x") for request in requests]
        return [triton.InferenceResponse([triton.Tensor("y", each.as_numpy())]) for each in inputs]

"""Takes 200 ms for each request, five a second: little work also for a slow machine."""

import time

import triton_python_backend_utils as triton


class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.2 * len(requests))
        inputs = [triton.get_input_tensor_by_name(request, "x") for request in requests]
        return [triton.InferenceResponse([triton.Tensor("y", each.as_numpy())]) for each in inputs]

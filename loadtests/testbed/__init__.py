"""A fleet of real sites on one machine, each in a network namespace of its own, joined by shaped links.

What is real: Envoy, Triton, the supervisors, every packet between sites. What is not: the compute. A model
answers what its ONNX graph answers, but takes as long as the scenario declares, mostly asleep, so that two
cores carry sites that would need a rack.
"""

"""A discrete-event simulator of a fleet: the same campaigns, the same policy code, the same results.

What it has: batching servers with bounded room, measured or declared times, cores that sites share, round
trips and bandwidths, telemetry that is late, probes, ejections, retries with back-off, failures.

What it has not: the load generator's and the front doors' own work, Envoy's retry budgets, priorities inside
a server's queue, connections (an answer is lost with its server, never with its link), and the models that an
app calls (an app is one server, as its callers see it). A client that gives up counts its error, but its
request is worked on to the end. Wrong answers do not happen.
"""

from loadtests.sim.cli import command
from loadtests.sim.run import Simulated, simulate
from loadtests.sim.topology import Topology

__all__ = ["Simulated", "Topology", "command", "simulate"]

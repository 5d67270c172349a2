"""The plan: from telemetry and fleet to the share of each front door's load that each site gets.

A pure function: the same problem and the same previous plan give the same plan at every front door, so that
none has to lead.
"""

from serving.router.plan.problem import Member, PoolProblem, Problem
from serving.router.plan.result import Plan, plan, resumed

__all__ = ["Member", "Plan", "PoolProblem", "Problem", "plan", "resumed"]

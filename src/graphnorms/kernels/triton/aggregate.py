from graphnorms.kernels.problem import AggregateProblem
from graphnorms.kernels.triton.loading import common_refusals
def aggregate_refusals(problem: AggregateProblem) -> list[str]:
    return common_refusals(problem.device, problem.dtype)

"""The sum over neighbours: its contract, its definition and its gradients."""

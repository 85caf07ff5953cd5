"""finetune: a trainer makes a new version of a tenant's draft or refine model from exports.

The trainer runs in a process of its own, in an environment with PyTorch, which the worker does not have.
"""

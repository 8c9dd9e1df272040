"""What makes Buildbot the CI of the guest's own forge.

Buildbot and Twisted say nothing of their types where this is checked (PEP 561): what is made of
theirs is marked `type: ignore`, and nothing else.
"""

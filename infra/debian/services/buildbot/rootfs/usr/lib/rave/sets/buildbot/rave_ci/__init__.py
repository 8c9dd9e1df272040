"""What makes Buildbot the CI of the guest's own forge."""

"""rave: build, launch, secure and prove a whole developer platform in one virtual machine."""

__version__ = "0.1.0"

# What an image says of its guest in `plan.json` of its output, for the host to go by: the version of
# the door into it, and its plan. src/rave_cli/images/carried.py reads it; change `version` there, too.
plan: {
  version = 1;
  door = 2;
  inherit plan;
}

"""Templates: booted machines that others are started from by copying their memory.

key      what a template belongs to: nothing else can be started from it
kept     the templates that there are, each whole or not at all
making   a throwaway machine is booted, held and put away
selfhood what a copy is told before anything runs in it
warm     a machine is started from a template
"""

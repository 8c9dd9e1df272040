"""What a cluster needs to run the jobs of pools: manifests, and their strict check.

kinds    what each kind of object may say, exactly as far as we say it: an unknown field is an error
cluster  the objects of a pool
checking files of objects, read and held against their kinds
"""

"""What only one service knows: a module for each that has more to say than its catalog record.

    alive(record)         the cheap questions that tell whether it lives, where no HTTP check does
    @check(...)           its checks
    proofs(plan, secret)  how it proves that it took a secret, for secrets whose record names it
    renew(plan, secret, value, old)  takes a new value of such a secret while it runs, and returns
                          what makes it forget the old one (secrets/renewal.py)
    keep(plan, path, folder)   what is kept of it: names and bytes of items, consistent; `folder` is
                          for a copy that is sent (state/keeping.py)
    put(folder, target, ours)  makes of those items what takes the place of its directory
    pour(plan, folder)    hands it what it takes only when it runs

`rave-guest ready` imports some of these modules while the machine boots: nothing heavy at the top
(a test lists what they may bring in).
"""

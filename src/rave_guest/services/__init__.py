"""What only one service knows: a module for each that has more to say than its catalog record.

    alive(record)         the cheap questions that tell whether it lives, where no HTTP check does
    @check(...)           its checks
    proofs(plan, secret)  how it proves that it took a secret, for secrets whose record names it

`rave-guest ready` imports some of these modules while the machine boots: nothing heavy at the top
(a test lists what they may bring in).
"""

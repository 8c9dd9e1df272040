# A login that was left open ends after an hour at the prompt.
readonly TMOUT=3600
export TMOUT
ulimit -c 0
# What an operator makes is not for the accounts of services, unless they say so.
umask 027

# To be sourced by what writes a service's access rules from /run/secrets as it is now, before each start
# of it. Outside /run/secrets a password is only ever a hash.
set -eu
umask 027
secrets=/run/secrets
run=/run/rave

# `prepare FILE GROUP`: a file that root and one group may read. It is written in place: its service does
# not run, or reads it at the next signal, and each program that is not started here saves a tenth of a
# second.
prepare() { [ -e "$run/$1" ] || install -m 0640 -o root -g "$2" /dev/null "$run/$1"; }

# `bcrypt`: of a password on stdin. The lowest cost: the passwords are random, and each client pays at each login.
bcrypt() { perl -e 'my $word = <STDIN>; chomp $word; my $salt = join "", map { ("a".."z", "A".."Z", 0..9)[rand 62] } 1..22; print crypt($word, "\$2a\$04\$$salt")'; }

-- Gives :role the password on standard input. psql quotes both.
-- Whatever the server's settings are, it does not log this statement.
SET log_statement = 'none';
SET log_min_error_statement = 'panic';
SET log_min_duration_statement = -1;
\set password `cat`
ALTER ROLE :"role" PASSWORD :'password';

# PostgreSQL, Redis and NATS: each takes the installed secret, and nothing else.
{ pkgs, sops-nix }:
pkgs.testers.runNixOSTest {
  name = "rave-databases";
  nodes.machine = import ./machine.nix { inherit pkgs sops-nix; profile = "demo"; memoryMiB = 2048; };

  testScript = ''
    machine.wait_for_unit("rave-ready.service")

    with subtest("a role without its password cannot log in"):
        machine.fail("PGPASSWORD= psql -h 127.0.0.1 -U grafana -c 'select 1' grafana")

    machine.succeed("python3 ${./install_secrets.py}")

    with subtest("a role logs in to its own database with its password"):
        machine.wait_for_unit("postgres-set-grafana-password.service")
        login = "PGPASSWORD=$(cat /run/secrets/grafana/db-password) psql -h 127.0.0.1 -U grafana"
        machine.succeed(login + " -c 'select 1' grafana")
        machine.fail(login + " -c 'select 1' postgres")

    with subtest("the exporter's role may watch"):
        machine.succeed("sudo -u postgres psql -XAtc \"select pg_has_role('prometheus', 'pg_monitor', 'member')\" | grep -q t")

    with subtest("NATS has JetStream and refuses strangers"):
        machine.wait_for_unit("nats.service")
        machine.succeed("curl -sf http://127.0.0.1:8222/jsz | grep -q memory")
        machine.fail("printf 'CONNECT {}\\r\\nPING\\r\\n' | timeout 2 ${pkgs.netcat}/bin/nc 127.0.0.1 4222 | grep -q PONG")
  '';
}

# The demo profile boots, waits for its secrets without failing, and is whole after they are installed.
{ pkgs, sops-nix }:
pkgs.testers.runNixOSTest {
  name = "rave-minimal";
  nodes.machine = import ./machine.nix { inherit pkgs sops-nix; profile = "demo"; memoryMiB = 2048; };
  nodes.outside.environment.systemPackages = [ pkgs.nmap pkgs.curl pkgs.openssh ];

  testScript = ''
    start_all()

    with subtest("boots without secrets and says so"):
        machine.wait_for_unit("postgresql.target")
        machine.wait_for_unit("nginx.service")
        machine.wait_for_unit("rave-ready.service")
        status = machine.succeed("curl -skf https://127.0.0.1:3002/status.json")
        assert '"secrets": "absent"' in status, status
        assert '"waiting"' in status, status
        machine.succeed("test -z \"$(systemctl list-units --failed --plain --no-legend)\"")
        machine.fail("test -e /run/secrets")

    with subtest("speaks TLS 1.3 and nothing older"):
        machine.succeed("curl -skf --tlsv1.3 https://127.0.0.1:3002/ | grep -q rave")
        machine.fail("curl -skf --tls-max 1.2 https://127.0.0.1:3002/")

    with subtest("the firewall admits SSH and the status page only"):
        outside.wait_for_unit("multi-user.target")
        scan = outside.succeed("nmap -Pn -n -p- --open -oG - machine | grep -o '[0-9]*/open' | sort")
        assert scan.split() == ["22/open", "3002/open"], scan

    with subtest("refuses passwords"):
        # The driver's own channel is trusted, so the key that the machine shows can be pinned.
        key = machine.succeed("ssh-keyscan -t ed25519 127.0.0.1 2>/dev/null")
        key = key.replace("127.0.0.1", "machine").strip()
        outside.succeed(f"mkdir -p /root/.ssh && echo '{key}' > /root/.ssh/known_hosts")
        refused = outside.fail(
            "ssh -o StrictHostKeyChecking=yes -o PubkeyAuthentication=no rave@machine true 2>&1"
        )
        assert "Permission denied (publickey)" in refused, refused

    with subtest("takes its secrets from a throw-away key"):
        machine.succeed("python3 ${./install_secrets.py}")
        machine.wait_for_unit("redis-rave.service")
        machine.wait_for_unit("nats.service")
        machine.wait_for_unit("grafana.service")
        machine.succeed("test $(stat -c %a /run/secrets/redis/password) = 400")
        machine.succeed("REDISCLI_AUTH=$(cat /run/secrets/redis/password) redis-cli ping | grep -q PONG")
        machine.fail("redis-cli get x | grep -qv NOAUTH")

    with subtest("keeps them over a reboot"):
        machine.shutdown()
        machine.start()
        machine.wait_for_unit("grafana.service")
        machine.wait_until_succeeds(
            "curl -skf https://127.0.0.1:3002/status.json | grep -q '\"secrets\": \"installed\"'", 300
        )
  '';
}

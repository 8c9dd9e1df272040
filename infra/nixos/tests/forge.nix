# GitLab: becomes ready, and is the sign-in provider of the others.
{ pkgs, sops-nix }:
pkgs.testers.runNixOSTest {
  name = "rave-forge";
  nodes.machine = import ./machine.nix { inherit pkgs sops-nix; profile = "development"; memoryMiB = 6144; };

  testScript = ''
    machine.wait_for_unit("rave-ready.service", timeout=900)
    machine.succeed("python3 ${./install_secrets.py}")
    machine.wait_for_unit("gitlab.service", timeout=1800)
    machine.wait_until_succeeds("curl -sf http://127.0.0.1:8080/-/readiness", 900)

    with subtest("describes itself as a provider under its public name"):
        issuer = machine.succeed("curl -sf http://127.0.0.1:8080/.well-known/openid-configuration | jq -r .issuer")
        assert issuer.strip() == "https://gitlab.rave.localhost:3002", issuer

    with subtest("knows its clients"):
        machine.wait_for_unit("gitlab-applications.service", timeout=900)
        machine.succeed(
            "sudo -u postgres psql -XAt -d gitlab -c 'select uid from oauth_applications' | grep -qx matrix"
        )
  '';
}

# Mattermost, Synapse and Element.
{ pkgs, sops-nix }:
pkgs.testers.runNixOSTest {
  name = "rave-chat";
  nodes.machine = { lib, ... }: {
    imports = [ (import ./machine.nix { inherit pkgs sops-nix; profile = "development"; memoryMiB = 3072; }) ];
    # Chat alone: this test is about what works without the forge.
    services.rave.gitlab.enable = lib.mkForce false;
  };

  testScript = ''
    machine.wait_for_unit("rave-ready.service", timeout=900)
    machine.succeed("python3 ${./install_secrets.py}")

    with subtest("Mattermost answers"):
        machine.wait_for_unit("mattermost.service", timeout=600)
        machine.wait_until_succeeds("curl -sf http://127.0.0.1:8065/api/v4/system/ping | grep -q OK", 300)

    with subtest("Synapse serves clients, and other servers not"):
        machine.wait_for_unit("matrix-synapse.service", timeout=600)
        machine.wait_until_succeeds("curl -sf http://127.0.0.1:8008/_matrix/client/versions", 300)
        machine.fail("curl -sf http://127.0.0.1:8008/_matrix/federation/v1/version")

    with subtest("Element knows its server"):
        machine.succeed(
            "curl -skf https://element.rave.localhost:3002/config.json | jq -e '.default_server_config.\"m.homeserver\".server_name == \"rave.localhost\"'"
        )
  '';
}

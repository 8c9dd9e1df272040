# The secrets of the platform. The attribute name is the selector in the SOPS file ("a/b" is key b
# in map a) and the place in the guest: /run/secrets/a/b.
#
#   owner      account that may read it (mode 0400); root where the base has no such account
#   generate   how `rave secrets init` makes a value
#   refresh    services restarted after it changed (a database password first reaches PostgreSQL)
#   proof      the service that proves after an installation that it took it: its module in the guest
#              has a function `proofs` (src/rave_guest/services/); null: nobody can be asked
#   lasting    why a new value alone renews nothing, or loses something: `rave secrets rotate --due` leaves it
#              out; null: it has its time
let
  password = { kind = "password"; length = 32; };
  hex = bytes: { kind = "hex"; inherit bytes; };
  # The value before may count, too, on a line of its own, until whoever sends has the new one.
  several = rule: rule // { several = true; };
  secret = description: owner: generate: refresh: { inherit description owner generate refresh; mode = "0400"; proof = null; lasting = null; };
  proven = service: record: record // { proof = service; };
  lasting = why: record: record // { lasting = why; };
  first = lasting "it counts at the first start alone; change it in the service";
  given = lasting "it is what its operator wrote: rave secrets edit";
  encrypts = lasting "what was encrypted with it could not be read any more";

  # PostgreSQL takes it through postgres-set-<role>-password.service, which the catalog derives.
  role = name: owner: refresh: proven "postgresql" (secret "password of the PostgreSQL role ${name}" owner password refresh);
in
{
  "grafana/admin-password" = first (secret "first password of Grafana's administrator" "grafana" password [ "grafana" ]);
  "grafana/secret-key" = encrypts (secret "signs Grafana's data source credentials" "grafana" (hex 32) [ "grafana" ]);
  "grafana/db-password" = role "grafana" "grafana" [ "grafana" ];

  "database/mattermost-password" = role "mattermost" "mattermost" [ "mattermost" ];
  "database/penpot-password" = role "penpot" "root" [ "penpot" ];
  "database/n8n-password" = role "n8n" "root" [ "n8n" ];
  "database/outline-password" = role "outline" "outline" [ "outline" ];
  "database/synapse-password" = role "synapse" "matrix-synapse" [ "matrix" ];
  "database/pagure-password" = role "pagure" "pagure" [ ];
  "database/canaille-password" = role "canaille" "canaille" [ ];
  "database/prometheus-password" = role "prometheus" "prometheus" [ ];

  "gitlab/root-password" = first (secret "first password of GitLab's administrator" "gitlab" password [ ]);
  "gitlab/db-password" = role "gitlab" "gitlab" [ "gitlab" ];
  "gitlab/secret" = encrypts (secret "GitLab secret_key_base" "gitlab" (hex 64) [ "gitlab" ]);
  "gitlab/db" = encrypts (secret "GitLab db_key_base" "gitlab" (hex 64) [ "gitlab" ]);
  "gitlab/otp" = encrypts (secret "GitLab otp_key_base" "gitlab" (hex 64) [ "gitlab" ]);
  "gitlab/jws" = secret "GitLab's OpenID Connect signing key" "gitlab" { kind = "rsa"; bits = 3072; } [ "gitlab" ];
  "gitlab/active-record-primary-key" = encrypts (secret "GitLab Active Record encryption: primary key" "gitlab" (hex 32) [ "gitlab" ]);
  "gitlab/active-record-deterministic-key" = encrypts (secret "GitLab Active Record encryption: deterministic key" "gitlab" (hex 32) [ "gitlab" ]);
  "gitlab/active-record-salt" = encrypts (secret "GitLab Active Record encryption: salt" "gitlab" (hex 32) [ "gitlab" ]);

  "canaille/secret-key" = secret "signs Canaille's sessions" "canaille" (hex 32) [ "canaille" ];
  "canaille/signing-key" = secret "Canaille's OpenID Connect signing key" "canaille" { kind = "rsa"; bits = 3072; } [ "canaille" ];

  "matrix/signing-key" = lasting "others know the server by it" (secret "signs what happens in Matrix rooms" "matrix-synapse" { kind = "matrix-key"; } [ "matrix" ]);
  "matrix/registration-shared-secret" = secret "lets an administrator register accounts" "matrix-synapse" (hex 32) [ "matrix" ];
  "matrix/macaroon-secret-key" = secret "signs Synapse's access tokens" "matrix-synapse" (hex 32) [ "matrix" ];
  "matrix/form-secret" = secret "signs Synapse's forms" "matrix-synapse" (hex 32) [ "matrix" ];

  "oidc/matrix-client-secret" = proven "canaille" (secret "Synapse's client secret at whoever signs people in" "matrix-synapse" (hex 32) [ "canaille" "matrix" ]);
  "oidc/outline-client-secret" = secret "Outline's client secret at GitLab" "outline" (hex 32) [ "outline" ];
  "oidc/portal-client-secret" = proven "canaille" (secret "the portal's client secret at whoever signs people in" "rave-portal" (hex 32) [ "canaille" ]);
  "oidc/smoke-client-secret" = proven "canaille" (secret "the smoke suite's client secret at Canaille" "root" (hex 32) [ "canaille" ]);

  "oidc/pagure-client-secret" = proven "canaille" (secret "Pagure's client secret at whoever signs people in" "pagure" (hex 32) [ "canaille" "pagure" ]);

  "pagure/secret-key" = secret "signs Pagure's sessions" "pagure" (hex 32) [ "pagure" "pagure-worker" ];
  "pagure/token" = proven "pagure" (secret "by which rave's own programs use the forge" "pagure" (hex 32) [ "pagure" "agents" "buildbot" ]);

  "docker-registry/password" = proven "docker-registry" (secret "password of the registry's account rave, for robots" "docker-registry" password [ "docker-registry" ]);

  "claude-code-router/api-key" = secret "by which programs prove to the router that they may use it" "root" (hex 32) [ "claude-code-router" ];
  "claude-code-router/providers" = given (secret "model providers with their keys, and what goes to which" "root" { kind = "settings"; } [ "claude-code-router" ]);

  "chat-bridge/as-token" = secret "by which the chat bridge proves to Matrix to be it" "root" (hex 32) [ "matrix" "chat-bridge" ];
  "chat-bridge/hs-token" = secret "by which Matrix proves to the chat bridge to be it" "root" (hex 32) [ "matrix" "chat-bridge" ];

  "webhook/gitlab-signing-secret" = secret "signs GitLab's webhooks" "root" (several { kind = "webhook-key"; bytes = 32; }) [ "webhook-dispatcher" ];
  "webhook/github-secret" = secret "signs GitHub's webhooks" "root" (several (hex 32)) [ "webhook-dispatcher" ];
  "webhook/forgejo-secret" = secret "signs the webhooks of Forgejo and Gitea" "root" (several (hex 32)) [ "webhook-dispatcher" ];
  "webhook/pagure-key" = secret "from which the keys follow by which the forge signs the webhooks of its projects" "root" (hex 32) [ "pagure" "webhook-dispatcher" ];

  "penpot/secret-key" = secret "signs Penpot's sessions" "root" (hex 64) [ "penpot" ];
  "outline/secret-key" = encrypts (secret "encrypts Outline's data" "outline" (hex 32) [ "outline" ]);
  "outline/utils-secret" = secret "guards Outline's maintenance endpoints" "outline" (hex 32) [ "outline" ];
  "n8n/encryption-key" = encrypts (secret "encrypts n8n's stored credentials" "root" (hex 32) [ "n8n" ]);

  "redis/password" = proven "redis" (secret "password of Redis" "redis" password [ "redis" "pagure" "pagure-worker" ]);
  "nats/password" = proven "nats" (secret "password of the NATS user rave" "nats" password [ "nats" "webhook-dispatcher" "chat-bridge" "agents" ]);
}

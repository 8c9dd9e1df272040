# Registers the platform's OpenID Connect clients at GitLab. GitLab knows no declarative form of them, so
# a oneshot makes its database say what the configuration says, each time it starts.
{ config, lib, pkgs, ... }:
let
  gitlab = config.services.rave.gitlab;
  inherit (config.rave.oidc) clients;

  # Names and addresses only; the secrets are read from credentials when it runs.
  wanted = pkgs.writeText "gitlab-applications.json" (builtins.toJSON (lib.mapAttrsToList
    (uid: client: { inherit uid; redirectUri = lib.concatLines client.redirectUris; })
    clients));

  script = pkgs.writeText "gitlab-applications.rb" ''
    model = Doorkeeper.config.application_model
    credentials = ENV.fetch('CREDENTIALS_DIRECTORY')
    JSON.parse(File.read('${wanted}')).each do |wanted|
      application = model.find_or_initialize_by(uid: wanted['uid'])
      application.assign_attributes(
        name: wanted['uid'], redirect_uri: wanted['redirectUri'].strip,
        scopes: 'openid profile email', trusted: true, confidential: true
      )
      if application.respond_to?(:organization=) && application.organization.nil?
        application.organization = Organizations::Organization.default_organization
      end
      secret = File.read(File.join(credentials, wanted['uid'])).strip
      application.secret_strategy.store_secret(application, :secret, secret)
      application.save!
    end
  '';
in
{
  config = lib.mkIf (gitlab.enable && clients != { }) {
    security.rave.needs.gitlab-applications.secrets =
      lib.mapAttrsToList (_: client: client.secret) clients;

    systemd.services.gitlab-applications = {
      description = "OpenID Connect clients of GitLab";
      wantedBy = [ "gitlab.target" ];
      requires = [ "gitlab.service" ];
      after = [ "gitlab.service" ];
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        Slice = "system-gitlab.slice";
        User = config.services.gitlab.user;
        Group = config.services.gitlab.group;
        TimeoutStartSec = "15min";
        LoadCredential = lib.mapAttrsToList
          (uid: client: "${uid}:${config.security.rave.path client.secret}")
          clients;
        # The module puts this program, set up for its installation, on the system path.
        ExecStart = "/run/current-system/sw/bin/gitlab-rails runner ${script}";
      };
    };
  };
}

# Element: Matrix' web client, static files that nginx serves.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.rave.element;
  inherit (config.rave) url;
in
{
  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = config.services.rave.matrix.enable;
        message = "services.rave.element.enable: Element is a client of Matrix, and services.rave.matrix is not enabled.";
      }
    ];

    rave.ingress.element = {
      title = "Element";
      root = pkgs.element-web.override {
        conf = {
          default_server_config."m.homeserver" = {
            base_url = url "matrix";
            server_name = config.services.rave.matrix.serverName;
          };
          disable_guests = true;
          disable_3pid_login = true;
          brand = "rave";
        };
      };
    };
  };
}

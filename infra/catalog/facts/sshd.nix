# OpenSSH, in the words of sshd_config(5) (keywords spelled as NixOS does; sshd takes any case): keys
# only, one account, no root. Paths and ports are the bases' own.
operator: {
  AllowUsers = [ operator ];
  AuthenticationMethods = "publickey";
  PubkeyAuthentication = true;
  PasswordAuthentication = false;
  KbdInteractiveAuthentication = false;
  HostbasedAuthentication = false;
  PermitEmptyPasswords = false;
  PermitRootLogin = "no";
  StrictModes = true;

  KexAlgorithms = [ "curve25519-sha256" "curve25519-sha256@libssh.org" ];
  HostKeyAlgorithms = "ssh-ed25519";
  PubkeyAcceptedAlgorithms = "ssh-ed25519";
  Ciphers = [ "chacha20-poly1305@openssh.com" "aes256-gcm@openssh.com" "aes128-gcm@openssh.com" ];
  Macs = [ "hmac-sha2-256-etm@openssh.com" "hmac-sha2-512-etm@openssh.com" ];

  LoginGraceTime = 20;
  MaxAuthTries = 3;
  MaxSessions = 4;
  MaxStartups = "10:30:30";
  # Idle strangers of one address must not take all of them: the way that no ban closes is another one.
  PerSourceMaxStartups = 8;
  ClientAliveInterval = 30;
  ClientAliveCountMax = 2;
  # The interval above notices a dead client; keepalives of TCP could be forged.
  TCPKeepAlive = false;
  Compression = false;

  # Local forwards reach the loopback ports of the plan (PermitOpen), nothing else.
  AllowTcpForwarding = "local";
  AllowStreamLocalForwarding = "no";
  AllowAgentForwarding = false;
  X11Forwarding = false;
  PermitTunnel = "no";
  GatewayPorts = "no";
  PermitUserEnvironment = false;
  PermitUserRC = false;

  UseDns = false;
  PrintMotd = false;
  PrintLastLog = true;
  # fail2ban counts refused keys, which sshd names from VERBOSE on.
  LogLevel = "VERBOSE";
}

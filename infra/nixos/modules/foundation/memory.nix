# Compressed swap in memory: idle pages of a dozen services shrink to a third, and nothing that was in
# memory, least of all a secret, reaches the disk.
{ config, ... }:
{
  zramSwap = {
    enable = true;
    memoryPercent = { safe = 50; full = 25; }.${config.rave.mode};
  };
  boot.kernel.sysctl."vm.swappiness" = 100;
}

/* A whole guest in one static program: it keeps rave's contract as far as its kernel command line
 * (tiny.do=...) says, and breaks it where that says so. Built with musl-gcc by tiny_guest.py. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/input.h>
#include <net/if.h>
#include <net/route.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static char instance[128] = "none", boot[64] = "";
static int port = -1;

static int slurp(const char *path, char *into, int size) {
  int fd = open(path, O_RDONLY), used = 0, got;
  if (fd < 0) return -1;
  while (used < size - 1 && (got = read(fd, into + used, size - 1 - used)) > 0) used += got;
  close(fd);
  into[used] = 0;
  return used;
}

static void load_modules(void) {
  FILE *list = fopen("/modules", "r");
  char path[200];
  while (list && fgets(path, sizeof path, list)) {
    path[strcspn(path, "\n")] = 0;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || syscall(SYS_finit_module, fd, "", 0)) perror(path);
    close(fd);
  }
}

static int value_of(char c) {
  const char *alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const char *at = strchr(alphabet, c);
  return c && at ? (int)(at - alphabet) : -1;
}

/* The instance id comes as systemd takes it: base64 in an SMBIOS string of type 11. */
static void read_instance(void) {
  const char *wanted = "io.systemd.credential.binary:rave.instance-id=";
  for (int entry = 0; entry < 8; entry++) {
    char path[80], raw[8192];
    snprintf(path, sizeof path, "/sys/firmware/dmi/entries/11-%d/raw", entry);
    int size = slurp(path, raw, sizeof raw);
    for (int at = 5; at < size; at += strlen(raw + at) + 1) {
      if (strncmp(raw + at, wanted, strlen(wanted))) continue;
      int out = 0, bits = 0, held = 0, value;
      for (char *c = raw + at + strlen(wanted); (value = value_of(*c)) >= 0; c++) {
        held = held << 6 | value;
        if ((bits += 6) >= 8) instance[out++] = held >> (bits -= 8) & 255;
      }
      instance[out] = 0;
    }
  }
}

static int open_port(const char *wanted, int flags) {
  DIR *ports = opendir("/sys/class/virtio-ports");
  struct dirent *entry;
  while (ports && (entry = readdir(ports))) {
    char path[300], name[64] = "";
    snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name);
    if (slurp(path, name, sizeof name) > 0 && !strncmp(name, wanted, strlen(wanted))) {
      snprintf(path, sizeof path, "/dev/%s", entry->d_name);
      return open(path, flags);
    }
  }
  printf("no port %s\n", wanted);
  return -1;
}

static void report(const char *stage, const char *more) {
  struct timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  dprintf(port, "{\"v\":1,\"instance\":\"%s\"%s,\"stage\":\"%s\",\"uptime\":%.3f%s}\n", instance, boot, stage,
          now.tv_sec + now.tv_nsec / 1e9, more);
}

/* Guests of rave 0.1.0 do not say which boot they report of. */
static void read_boot(void) {
  char id[40] = "";
  slurp("/proc/sys/kernel/random/boot_id", id, sizeof id);
  id[strcspn(id, "\n")] = 0;
  snprintf(boot, sizeof boot, ",\"boot\":\"%s\"", id);
}

static struct sockaddr_in address(const char *ip, int number) {
  struct sockaddr_in found = {.sin_family = AF_INET, .sin_port = htons(number)};
  inet_aton(ip, &found.sin_addr);
  return found;
}

static void set_network(void) {
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  struct ifreq request = {.ifr_name = "eth0"};
  *(struct sockaddr_in *)&request.ifr_addr = address("10.0.2.15", 0);
  if (ioctl(fd, SIOCSIFADDR, &request)) perror("eth0 address");
  *(struct sockaddr_in *)&request.ifr_netmask = address("255.255.255.0", 0);
  ioctl(fd, SIOCSIFNETMASK, &request);
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  ioctl(fd, SIOCSIFFLAGS, &request);
  struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
  *(struct sockaddr_in *)&route.rt_gateway = address("10.0.2.2", 0);
  *(struct sockaddr_in *)&route.rt_dst = address("0.0.0.0", 0);
  *(struct sockaddr_in *)&route.rt_genmask = address("0.0.0.0", 0);
  ioctl(fd, SIOCADDRT, &route);
  close(fd);
}

/* Whether the guest reaches a port of the host through the user network's gateway. */
static int reaches_host(int number) {
  struct sockaddr_in to = address("10.0.2.2", number);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), fault = 1;
  socklen_t size = sizeof fault;
  connect(fd, (struct sockaddr *)&to, sizeof to);
  struct pollfd wait = {.fd = fd, .events = POLLOUT};
  if (poll(&wait, 1, 1500) == 1) getsockopt(fd, SOL_SOCKET, SO_ERROR, &fault, &size);
  close(fd);
  return fault == 0;
}

/* Something that looks like sshd for as long as its banner. */
static void serve_banners(void) {
  int server = socket(AF_INET, SOCK_STREAM, 0), client;
  struct sockaddr_in here = address("0.0.0.0", 22);
  bind(server, (struct sockaddr *)&here, sizeof here);
  listen(server, 4);
  if (fork()) return;
  while ((client = accept(server, 0, 0)) >= 0) {
    dprintf(client, "SSH-2.0-tiny\r\n");
    close(client);
  }
}

/* The way in that no ban closes, as far as the banner: what rave_guest/way.py does for each client. */
static void serve_way(void) {
  char word[130], data[5000];
  int fd = open_port("org.rave.way", O_RDWR | O_NONBLOCK), got, number = 0;
  int size = snprintf(word, sizeof word, "%s\n", instance);
  if (fd < 0 || fork()) return;
  for (;; usleep(20000))
    if ((got = read(fd, data, sizeof data)) >= size && !memcmp(data + got - size, word, size)) {
      write(fd, word, size);
      dprintf(fd, "SSH-2.0-way%d\r\n", ++number);
      /* What nobody may read: the next client must not take it for its own. */
      for (int i = 0; i < 2000; i++) write(fd, "stale bytes ", 12);
    }
}

/* What systemd-logind does with the power button. */
static void heed_power_button(void) {
  struct pollfd keys[8];
  int count = 0;
  for (int number = 0; number < 8; number++) {
    char path[40];
    snprintf(path, sizeof path, "/dev/input/event%d", number);
    int fd = open(path, O_RDONLY);
    if (fd >= 0) keys[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
  }
  while (poll(keys, count, -1) > 0)
    for (int i = 0; i < count; i++) {
      struct input_event event;
      if (!(keys[i].revents & POLLIN) || read(keys[i].fd, &event, sizeof event) != sizeof event) continue;
      if (event.type == EV_KEY && event.code == KEY_POWER) return;
    }
}

/* Whether this is not the first boot with this disk; the disk remembers. */
static int booted_before(void) {
  char mark = 0;
  int fd = open("/dev/vda", O_RDWR);
  pread(fd, &mark, 1, 0);
  if (mark != 'b') pwrite(fd, "b", 1, 0), fsync(fd);
  close(fd);
  return mark == 'b';
}

static void report_services(const char *state, int reaches) {
  char more[200];
  snprintf(more, sizeof more,
           ",\"secrets\":\"absent\",\"reaches_host\":%d,\"services\":{\"tiny\":{\"state\":\"%s\",\"unit\":"
           "\"tiny.service\",\"uptime\":1.0}}",
           reaches, state);
  report("services", more);
}

/* Write 3 MiB to the disk and wait until they are there. */
static void fill_disk(void) {
  static char block[1 << 20];
  memset(block, 'x', sizeof block);
  int fd = open("/dev/vda", O_WRONLY);
  for (int i = 0; i < 3; i++)
    if (write(fd, block, sizeof block) != sizeof block) perror("/dev/vda");
  fsync(fd);
  close(fd);
}

/* Write a growing number to ever new places of the disk, and tell each once it is synced. */
static void write_and_tell(void) {
  static char block[4096];
  int fd = open("/dev/vda", O_WRONLY);
  for (unsigned count = 1;; count++, usleep(3000)) {
    char more[40];
    memcpy(block, &count, sizeof count);
    if (pwrite(fd, block, sizeof block, (off_t)(count % 8000 + 1) << 16) != sizeof block || fsync(fd)) {
      perror("/dev/vda");
      continue;
    }
    snprintf(more, sizeof more, ",\"count\":%u", count);
    report("wrote", more);
  }
}

/* Write without end, as a guest does that means harm. */
static void flood(int fd) {
  static char block[1 << 16];
  for (unsigned i = 0; i < sizeof block; i++) block[i] = i % 100 == 99 ? '\n' : 'x';
  for (;;)
    if (write(fd, block, sizeof block) < 0) sleep(1);
}

int main(void) {
  char cmdline[2048], *found;
  mount("none", "/dev", "devtmpfs", 0, 0);
  mount("none", "/proc", "proc", 0, 0);
  mount("none", "/sys", "sysfs", 0, 0);
  int console = open("/dev/console", O_RDWR);
  dup2(console, 0), dup2(console, 1), dup2(console, 2);
  setvbuf(stdout, 0, _IONBF, 0);
  slurp("/proc/cmdline", cmdline, sizeof cmdline);
  puts("tiny guest");
  load_modules();
  read_instance();
  port = open_port("org.rave.ready", O_WRONLY);
  const char *act = (found = strstr(cmdline, "tiny.do=")) ? found + 8 : "";
  int number = (found = strstr(cmdline, "tiny.port=")) ? atoi(found + 10) : 0;

  if (!strstr(cmdline, "tiny.old")) read_boot();
  report("systemd", "");
  if (!strncmp(act, "panic", 5)) exit(1);
  if (!strncmp(act, "emergency", 9)) puts("You are in emergency mode. After logging in, ...");
  if (!strncmp(act, "poweroff", 8)) reboot(RB_POWER_OFF);
  if (!strncmp(act, "failed", 6)) report("failed", ",\"reason\":\"emergency.target\"");
  if (!strncmp(act, "fill", 4)) fill_disk(), act = "ready";
  if (!strncmp(act, "flood", 5)) report_services("healthy", -1), flood(port);
  if (!strncmp(act, "shout", 5)) report_services("healthy", -1), flood(1);
  /* The power button starts it anew, and its second boot goes wrong. */
  int reboots = !strncmp(act, "reboot", 6);
  int writes = !strncmp(act, "write", 5);
  if (reboots || writes) act = "ready";
  if (!strncmp(act, "ready", 5)) {
    set_network();
    serve_banners();
    serve_way();
    int again = reboots && booted_before();
    if (again) sleep(1);
    report_services(again ? "failed" : "healthy", number ? reaches_host(number) : -1);
    if (writes && !fork()) write_and_tell();
    heed_power_button();
    if (boot[0]) report("stopping", "");
    if (reboots) sleep(1);
    reboot(reboots && !again ? RB_AUTOBOOT : RB_POWER_OFF);
  }
  for (;;) pause();
}

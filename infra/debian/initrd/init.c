/*
 * The guest's initrd: loads modules, mounts /dev/vda and hands over to systemd.
 *
 * Debian's cloud kernel has ext4 built in and virtio as modules. A general initrd costs a second of
 * boot under emulation; this one does only what a rave machine needs. It uses no C library, so that
 * the locked tcc compiles it to the same bytes on every host.
 *
 * Beside virtio it loads what acpid and the firewall need: the kernel would start modprobe for each of
 * these, which reads its index anew, and that costs an emulated processor far more than the loading.
 * Nobody waits for them: a process of their own loads them while systemd starts, for which there is
 * another processor.
 *
 * /modules/first and /modules/later name the modules to load, one path per line, in order. A failure
 * is told on the console. One of the first ends init, so that the kernel panics and whoever watches
 * the machine knows at once; one of the later ends the loading, and the kernel asks modprobe for it
 * where it is needed.
 */

enum {
    SYS_READ = 0, SYS_WRITE = 1, SYS_OPEN = 2, SYS_CLOSE = 3, SYS_DUP2 = 33, SYS_NANOSLEEP = 35,
    SYS_FORK = 57, SYS_EXECVE = 59, SYS_EXIT = 60, SYS_CHDIR = 80, SYS_MKDIR = 83,
    SYS_CHROOT = 161, SYS_MOUNT = 165, SYS_FINIT_MODULE = 313
};
enum { O_RDONLY = 0, O_RDWR = 2 };
enum { MS_NOSUID = 2, MS_NODEV = 4, MS_NOEXEC = 8, MS_NOATIME = 1024, MS_MOVE = 8192 };
enum { EEXIST = 17 };

#define DISK "/dev/vda"
#define DISK_POLLS 5000
#define DISK_POLL_NS 2000000L
#define LIST_SIZE 4096

struct timespec { long seconds, nanoseconds; };

static long call(long number, long a, long b, long c, long d, long e)
{
    long result;
    __asm__ volatile("movq %5, %%r10\n\t"
                     "movq %6, %%r8\n\t"
                     "syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "m"(d), "m"(e)
                     : "rcx", "r8", "r10", "r11", "memory");
    return result;
}

static long length(const char *text)
{
    long n = 0;
    while (text[n])
        n++;
    return n;
}

static void say(const char *text)
{
    call(SYS_WRITE, 2, (long)text, length(text), 0, 0);
}

static void fail(const char *what)
{
    say("rave-initrd: ");
    say(what);
    say(" failed\n");
    call(SYS_EXIT, 1, 0, 0, 0, 0);
}

static long mount(const char *source, const char *target, const char *type, long flags)
{
    return call(SYS_MOUNT, (long)source, (long)target, (long)type, flags, 0);
}

static void use_console(void)
{
    long console = call(SYS_OPEN, (long)"/dev/console", O_RDWR, 0, 0, 0);
    for (int fd = 0; console >= 0 && fd < 3; fd++)
        call(SYS_DUP2, console, fd, 0, 0, 0);
}

static void load(const char *path)
{
    long fd = call(SYS_OPEN, (long)path, O_RDONLY, 0, 0, 0);
    long result = call(SYS_FINIT_MODULE, fd, (long)"", 0, 0, 0);
    if (result < 0 && result != -EEXIST)
        fail(path);
    call(SYS_CLOSE, fd, 0, 0, 0, 0);
}

static void load_modules(const char *names)
{
    static char list[LIST_SIZE];
    long fd = call(SYS_OPEN, (long)names, O_RDONLY, 0, 0, 0);
    long size = call(SYS_READ, fd, (long)list, LIST_SIZE - 1, 0, 0);
    char *line = list;
    if (size < 0)
        fail(names);
    for (long i = 0; i < size; i++) {
        if (list[i] != '\n')
            continue;
        list[i] = 0;
        load(line);
        line = list + i + 1;
    }
    call(SYS_CLOSE, fd, 0, 0, 0, 0);
}

/* Its root stays this initrd's, whatever the parent mounts over it. */
static void load_meanwhile(const char *names)
{
    if (call(SYS_FORK, 0, 0, 0, 0, 0) != 0)
        return;
    load_modules(names);
    call(SYS_EXIT, 0, 0, 0, 0, 0);
}

/* The driver probes the disk on its own time. */
static void mount_disk(void)
{
    struct timespec pause = { 0, DISK_POLL_NS };
    for (int i = 0; i < DISK_POLLS; i++) {
        if (mount(DISK, "/root", "ext4", MS_NOATIME) == 0)
            return;
        call(SYS_NANOSLEEP, (long)&pause, 0, 0, 0, 0);
    }
    fail("mounting " DISK);
}

static void start_system(void)
{
    static char *argv[] = { "/sbin/init", 0 };
    static char *envp[] = { "HOME=/", "TERM=linux", 0 };
    if (mount("/dev", "/root/dev", 0, MS_MOVE) < 0)
        fail("moving /dev");
    if (call(SYS_CHDIR, (long)"/root", 0, 0, 0, 0) < 0 || mount(".", "/", 0, MS_MOVE) < 0)
        fail("moving the root");
    if (call(SYS_CHROOT, (long)".", 0, 0, 0, 0) < 0 || call(SYS_CHDIR, (long)"/", 0, 0, 0, 0) < 0)
        fail("entering the root");
    call(SYS_EXECVE, (long)argv[0], (long)argv, (long)envp, 0, 0);
    fail("starting /sbin/init");
}

/* systemd leaves what it finds mounted as it is, and would forbid less. */
static void mount_devices(void)
{
    if (mount("none", "/dev", "devtmpfs", MS_NOSUID | MS_NOEXEC) < 0)
        call(SYS_EXIT, 1, 0, 0, 0, 0);
    use_console();
    call(SYS_MKDIR, (long)"/dev/shm", 01777, 0, 0, 0);
    if (mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC) < 0)
        fail("mounting /dev/shm");
}

void _start(void)
{
    mount_devices();
    load_modules("/modules/first");
    load_meanwhile("/modules/later");
    mount_disk();
    start_system();
}

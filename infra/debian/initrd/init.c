/*
 * The guest's initrd: loads modules, mounts the system's disk, and below it that of the data, and hands over to systemd.
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
 * That one has nothing else to do for a second. Meanwhile it runs, once and for nothing, the programs
 * of /forerun, which ask for their version alone: an emulator translates a program when it first runs,
 * and keeps that for whoever runs it again at the same addresses, as programs in Go are. Half of what a
 * boot translates is theirs (docs/explanation/boot-time.md). They have an account that owns nothing, and
 * the least of all priorities.
 *
 * It also grows the file system to the disk, for the program that does it takes an eighth of a second
 * for which everything waits.
 *
 * /modules/first and /modules/later name the modules to load, one path per line, in order. A failure
 * is told on the console. One of the first ends init, so that the kernel panics and whoever watches
 * the machine knows at once; one of the later ends the loading, and the kernel asks modprobe for it
 * where it is needed.
 */

enum {
    SYS_READ = 0, SYS_WRITE = 1, SYS_OPEN = 2, SYS_CLOSE = 3, SYS_LSEEK = 8, SYS_IOCTL = 16, SYS_DUP2 = 33,
    SYS_NANOSLEEP = 35, SYS_FORK = 57, SYS_EXECVE = 59, SYS_EXIT = 60, SYS_WAIT4 = 61,
    SYS_CHDIR = 80, SYS_MKDIR = 83, SYS_SETUID = 105, SYS_SETGID = 106, SYS_SETSID = 112,
    SYS_SETGROUPS = 116, SYS_STATFS = 137, SYS_SETPRIORITY = 141, SYS_CHROOT = 161, SYS_MOUNT = 165, SYS_UMOUNT2 = 166,
    SYS_SCHED_GETAFFINITY = 204, SYS_FINIT_MODULE = 313
};
enum { SEEK_SET = 0, O_RDONLY = 0, O_WRONLY = 1, O_RDWR = 2, O_SYNC = 04010000 };
enum { MS_NOSUID = 2, MS_NODEV = 4, MS_NOEXEC = 8, MS_NOATIME = 1024, MS_MOVE = 8192 };
enum { EEXIST = 17 };
enum { BLKGETSIZE64 = 0x80081272, EXT4_IOC_RESIZE_FS = 0x40086610 }; /* linux/fs.h, fs/ext4/ext4.h */

#define DISK "/dev/vda"
#define DATA "/dev/vdb"
#define MOUNTED "/root/data"
#define GROUPS "/cgroup"
#define DISK_POLLS 5000
#define DISK_POLL_NS 2000000L
#define LIST_SIZE 4096
#define NOBODY 65534
#define LAST_OF_ALL 19

/* Read before the disk's root takes the place of the one in which the list lies. */
static char forerunners[LIST_SIZE];

/*
 * Whose the data disk is: in its first sector, which ext4 leaves to boot loaders. The command line says
 * `rave_data=ID`, or `rave_data=ID,FORMER` if its data may be a copy of another machine's; what the kernel
 * does not know of it, it gives to init as environment.
 */
#define LABEL "rave-data 1 "
#define ASKED "rave_data="
#define ID_SIZE 32
#define SECTOR 512

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

static void load(char *path)
{
    long fd = call(SYS_OPEN, (long)path, O_RDONLY, 0, 0, 0);
    long result = call(SYS_FINIT_MODULE, fd, (long)"", 0, 0, 0);
    if (result < 0 && result != -EEXIST)
        fail(path);
    call(SYS_CLOSE, fd, 0, 0, 0, 0);
}

static void read_list(const char *names, char *list)
{
    long fd = call(SYS_OPEN, (long)names, O_RDONLY, 0, 0, 0);
    long size = call(SYS_READ, fd, (long)list, LIST_SIZE - 1, 0, 0);
    if (size < 0)
        fail(names);
    list[size] = 0;
    call(SYS_CLOSE, fd, 0, 0, 0, 0);
}

static void each_line(char *list, void (*act)(char *line))
{
    char *line = list;
    for (char *c = list; *c; c++) {
        if (*c != '\n')
            continue;
        *c = 0;
        act(line);
        line = c + 1;
    }
}

static void load_modules(const char *names)
{
    static char list[LIST_SIZE];
    read_list(names, list);
    each_line(list, load);
}

/* Its root stays this initrd's, whatever the parent mounts over it. */
static void load_meanwhile(const char *names)
{
    if (call(SYS_FORK, 0, 0, 0, 0, 0) != 0)
        return;
    load_modules(names);
    call(SYS_EXIT, 0, 0, 0, 0, 0);
}

/* The driver probes a disk on its own time. */
static void mount_disk(const char *disk, const char *target, long flags)
{
    struct timespec pause = { 0, DISK_POLL_NS };
    for (int i = 0; i < DISK_POLLS; i++) {
        if (mount(disk, target, "ext4", flags) == 0)
            return;
        call(SYS_NANOSLEEP, (long)&pause, 0, 0, 0, 0);
    }
    say(disk);
    fail(": mounting");
}

static int same(const char *a, const char *b, long size)
{
    while (size > 0 && *a++ == *b++)
        size--;
    return size == 0;
}

static const char *asked_for(char **environment)
{
    for (; *environment; environment++)
        if (same(*environment, ASKED, sizeof ASKED - 1))
            return *environment + sizeof ASKED - 1;
    return 0;
}

static long open_data(void)
{
    struct timespec pause = { 0, DISK_POLL_NS };
    for (int i = 0; i < DISK_POLLS; i++) {
        long fd = call(SYS_OPEN, (long)DATA, O_RDWR | O_SYNC, 0, 0, 0);
        if (fd >= 0)
            return fd;
        call(SYS_NANOSLEEP, (long)&pause, 0, 0, 0, 0);
    }
    fail("opening " DATA);
    return -1;
}

static char *first_sector(long fd)
{
    static char sector[SECTOR];
    call(SYS_LSEEK, fd, 0, SEEK_SET, 0, 0);
    if (call(SYS_READ, fd, (long)sector, SECTOR, 0, 0) != SECTOR)
        fail("reading " DATA);
    return sector;
}

static void write_label(long fd, char *sector, const char *id)
{
    for (long i = 0; i < SECTOR; i++)
        sector[i] = 0;
    for (long i = 0; i < (long)sizeof LABEL - 1; i++)
        sector[i] = LABEL[i];
    for (long i = 0; i < ID_SIZE; i++)
        sector[sizeof LABEL - 1 + i] = id[i];
    sector[sizeof LABEL - 1 + ID_SIZE] = '\n';
    call(SYS_LSEEK, fd, 0, SEEK_SET, 0, 0);
    if (call(SYS_WRITE, fd, (long)sector, SECTOR, 0, 0) != SECTOR)
        fail("labelling " DATA);
}

/*
 * Mounts the data of this machine and of no other. The label is written behind the mount: what the file system's
 * journal puts back then may hold the one of before.
 */
static void mount_data(const char *asked)
{
    long fd, former;
    char *sector, *label;
    if (!asked || length(asked) < ID_SIZE) {
        say("rave-initrd: the command line does not say " ASKED "\n");
        call(SYS_EXIT, 1, 0, 0, 0, 0);
    }
    former = asked[ID_SIZE] == ',' && length(asked) >= 2 * ID_SIZE + 1;
    fd = open_data();
    sector = first_sector(fd);
    label = sector + sizeof LABEL - 1;
    if (sector[0] && !(same(sector, LABEL, sizeof LABEL - 1)
            && (same(label, asked, ID_SIZE) || (former && same(label, asked + ID_SIZE + 1, ID_SIZE))))) {
        say("rave-initrd: " DATA " is the data disk of another machine\n");
        call(SYS_EXIT, 1, 0, 0, 0, 0);
    }
    mount_disk(DATA, MOUNTED, MS_NOATIME | MS_NOSUID | MS_NODEV);
    if (!same(first_sector(fd), LABEL, sizeof LABEL - 1) || !same(label, asked, ID_SIZE))
        write_label(fd, sector, asked);
    call(SYS_CLOSE, fd, 0, 0, 0, 0);
}

/* The file system of the data is of the image's size, and the machine's disk may be larger. Before anything writes:
 * what starts on a full disk fails, and may leave half a file behind. */
static void grow(void)
{
    static unsigned long bytes, blocks, status[15];
    long disk = call(SYS_OPEN, (long)DATA, O_RDONLY, 0, 0, 0);
    long root = call(SYS_OPEN, (long)MOUNTED, O_RDONLY, 0, 0, 0);
    long known = call(SYS_IOCTL, disk, BLKGETSIZE64, (long)&bytes, 0, 0) == 0
                 && call(SYS_STATFS, (long)MOUNTED, (long)status, 0, 0, 0) == 0 && status[1] > 0;
    blocks = known ? bytes / status[1] : 0;
    if (!known || call(SYS_IOCTL, root, EXT4_IOC_RESIZE_FS, (long)&blocks, 0, 0) < 0)
        say("rave-initrd: growing the file system to the disk failed\n");
    call(SYS_CLOSE, disk, 0, 0, 0, 0);
    call(SYS_CLOSE, root, 0, 0, 0, 0);
}

static void forerun(char *program)
{
    char *word = program;
    while (*word && *word != ' ')
        word++;
    if (*word)
        *word++ = 0;
    char *argv[] = { program, word, 0 };
    static char *envp[] = { 0 };
    long child = call(SYS_FORK, 0, 0, 0, 0, 0);
    if (child == 0) {
        call(SYS_EXECVE, (long)program, (long)argv, (long)envp, 0, 0);
        call(SYS_EXIT, 1, 0, 0, 0, 0);
    }
    call(SYS_WAIT4, child, 0, 0, 0, 0);
}

/* Whether there is one processor alone, which others want. */
static long is_alone(void)
{
    static unsigned long processors[128];
    call(SYS_SCHED_GETAFFINITY, 0, sizeof processors, (long)processors, 0, 0);
    return (processors[0] & (processors[0] - 1)) == 0;
}

/* A program that is not there is passed over. */
static void forerun_meanwhile(void)
{
    if (is_alone() || call(SYS_FORK, 0, 0, 0, 0, 0) != 0)
        return;
    long null = call(SYS_OPEN, (long)"/dev/null", O_RDWR, 0, 0, 0);
    for (int fd = 0; null >= 0 && fd < 3; fd++)
        call(SYS_DUP2, null, fd, 0, 0, 0);
    call(SYS_SETSID, 0, 0, 0, 0, 0);
    if (call(SYS_SETPRIORITY, 0, 0, LAST_OF_ALL, 0, 0) == 0 && call(SYS_SETGROUPS, 0, 0, 0, 0, 0) == 0
        && call(SYS_SETGID, NOBODY, 0, 0, 0, 0) == 0 && call(SYS_SETUID, NOBODY, 0, 0, 0, 0) == 0)
        each_line(forerunners, forerun);
    call(SYS_EXIT, 0, 0, 0, 0, 0);
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
    forerun_meanwhile();
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

/*
 * Makes the first control group with the memory's controller, as systemd would: the one of its own name, which it then
 * finds. With it the kernel patches its code, in everything that allocates memory. QEMU before 8.1 may translate such
 * a place while another processor puts its last byte there, and keeps the trap that was in between for good: both
 * processors take it for ever (QEMU's commit "accel/tcg: Always lock pages before translation"). Boots hung
 * so (docs/adr/0066). Now there is nobody else yet.
 */
static void account_memory(void)
{
    static char wanted[] = "+memory";
    call(SYS_MKDIR, (long)GROUPS, 0755, 0, 0, 0);
    long mounted = mount("none", GROUPS, "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC);
    long control = call(SYS_OPEN, (long)GROUPS "/cgroup.subtree_control", O_WRONLY, 0, 0, 0);
    if (call(SYS_WRITE, control, (long)wanted, sizeof wanted - 1, 0, 0) < 0
        || call(SYS_MKDIR, (long)GROUPS "/init.scope", 0755, 0, 0, 0) < 0)
        say("rave-initrd: making a control group failed\n");
    call(SYS_CLOSE, control, 0, 0, 0, 0);
    if (mounted == 0)
        call(SYS_UMOUNT2, (long)GROUPS, 0, 0, 0, 0);
}

/* The kernel leaves on the stack: count, arguments, 0, environment, 0. The frame pointer was pushed above. */
void _start(void)
{
    long *frame;
    __asm__ volatile("movq %%rbp, %0" : "=r"(frame));
    mount_devices();
    account_memory();
    load_modules("/modules/first");
    load_meanwhile("/modules/later");
    read_list("/forerun", forerunners);
    mount_disk(DISK, "/root", MS_NOATIME);
    mount_data(asked_for((char **)(frame + frame[1] + 3)));
    grow();
    start_system();
}

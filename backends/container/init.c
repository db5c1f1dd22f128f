/* The first process of an attempt in a container: `/jobc/init [--limit MS] [--grace MS] [--end FILE] [--env FILE] -- PROGRAM [ARGUMENT...]`.
 *
 * It starts the program in a session of its own and then
 *   - reaps whatever becomes an orphan, so that an image needs no init of its own;
 *   - passes TERM to every process of the container, and what is left after the grace gets KILL. Other signals go to the
 *     program's group;
 *   - does the same when the limit has passed, so that a container outlives a jobc that is gone by no more than that;
 *   - KILLs what the program left behind when it has ended;
 *   - writes to FILE how the program ended, which an exit code cannot tell: 126, 127 and 128+N are as well what a program
 *     may give by itself. FILE has lines of a word and numbers:
 *         exit CODE | signal NUMBER | start ERRNO     how: by itself, by a signal, never started
 *         limit                         the limit ended it
 *         oom                           the kernel killed something of it at the container's memory limit
 *         times START END               wall clock, milliseconds since 1970
 *         usage CPU_MS MAX_RSS_KB       of everything that was reaped
 *
 * `--env FILE` holds NAME=value with a zero byte after each, which replace what is set by these names, or are added: for
 * tools that would put an environment through a shell, or through names and separators of their own.
 *
 * It ends with the program's exit code, 128+N after a signal, 127 if the program was not found and 126 if it could not be
 * started. As PID 1 it speaks to all processes by kill(-1); otherwise (apptainer) to its descendants, as a subreaper.
 *
 * Freestanding: no libc, a few kB, one static file for every image. Linux on x86-64 and aarch64.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* -- The kernel ------------------------------------------------------------------------------------------------------ */

static long Call(long number, long a, long b, long c, long d) {
#if defined(__x86_64__)
  long result;
  register long r10 __asm__("r10") = d;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
  return x0;
#else
#error "to port it: how this machine calls the kernel, here and at _start"
#endif
}

/* What the compiler may call by itself. */
void *memset(void *to, int byte, size_t count) {
  volatile char *out = to;
  while (count-- > 0) *out++ = (char)byte;
  return to;
}
void *memcpy(void *to, const void *from, size_t count) {
  volatile char *out = to;
  const char *in = from;
  while (count-- > 0) *out++ = *in++;
  return to;
}

enum { kHup = 1, kInt = 2, kQuit = 3, kKill = 9, kTerm = 15, kChld = 17, kCont = 18, kSignals = 64 };
enum { kNoHang = 1, kClockRealtime = 0, kClockMonotonic = 1, kMaxPids = 4096 };

struct Time {
  int64_t s, ns;
};

static int64_t NowMs(int clock) {
  struct Time time = {0, 0};
  Call(SYS_clock_gettime, clock, (long)&time, 0, 0);
  return time.s * 1000 + time.ns / 1000000;
}

static long Kill(long pid, int signal) { return Call(SYS_kill, pid, signal, 0, 0); }
static long Wait(int *status) { return Call(SYS_wait4, -1, (long)status, kNoHang, 0); }
static long Open(const char *path, long flags, long mode) { return Call(SYS_openat, AT_FDCWD, (long)path, flags | O_CLOEXEC, mode); }
static void Close(long fd) { Call(SYS_close, fd, 0, 0, 0); }

static void Exit(int code) {
  for (;;) Call(SYS_exit_group, code, 0, 0, 0);
}

/* Zeroed memory; NULL: there is none. */
static void *Map(size_t size) {
  long result;
#if defined(__x86_64__)
  register long r10 __asm__("r10") = MAP_PRIVATE | MAP_ANONYMOUS;
  register long r8 __asm__("r8") = -1;
  register long r9 __asm__("r9") = 0;
  __asm__ volatile("syscall" : "=a"(result) : "a"(SYS_mmap), "D"(0L), "S"(size), "d"((long)(PROT_READ | PROT_WRITE)), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
#else
  register long x8 __asm__("x8") = SYS_mmap;
  register long x0 __asm__("x0") = 0;
  register long x1 __asm__("x1") = (long)size;
  register long x2 __asm__("x2") = PROT_READ | PROT_WRITE;
  register long x3 __asm__("x3") = MAP_PRIVATE | MAP_ANONYMOUS;
  register long x4 __asm__("x4") = -1;
  register long x5 __asm__("x5") = 0;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
  result = x0;
#endif
  return result < 0 && result > -4096 ? NULL : (void *)result;
}

/* -- Text ------------------------------------------------------------------------------------------------------------ */

static size_t Length(const char *text) {
  size_t size = 0;
  while (text[size] != '\0') ++size;
  return size;
}

static int Same(const char *x, const char *y) {
  while (*x != '\0' && *x == *y) ++x, ++y;
  return *x == *y;
}

struct Text {
  char bytes[512];
  size_t size;
};

static void AddText(struct Text *text, const char *part) {
  while (*part != '\0' && text->size + 1 < sizeof text->bytes) text->bytes[text->size++] = *part++;
  text->bytes[text->size] = '\0';
}

static void AddNumber(struct Text *text, int64_t number) {
  char digits[24];
  char *at = digits + sizeof digits;
  uint64_t rest = number < 0 ? -(uint64_t)number : (uint64_t)number;
  *--at = '\0';
  do *--at = (char)('0' + rest % 10), rest /= 10;
  while (rest > 0);
  if (number < 0) *--at = '-';
  AddText(text, at);
}

static void Write(long fd, const char *bytes, size_t size) {
  while (size > 0) {
    long done = Call(SYS_write, fd, (long)bytes, (long)size, 0);
    if (done == -EINTR) continue;
    if (done <= 0) return;
    bytes += done;
    size -= (size_t)done;
  }
}

static void Say(const char *message, const char *what) {
  struct Text text = {{0}, 0};
  AddText(&text, "jobc init: ");
  AddText(&text, message);
  AddText(&text, what);
  AddText(&text, "\n");
  Write(2, text.bytes, text.size);
}

/* -1: not a number. */
static int64_t Number(const char *text) {
  int64_t number = 0;
  if (*text == '\0') return -1;
  for (; *text != '\0'; ++text) {
    if (*text < '0' || *text > '9' || number > INT64_MAX / 10 - 10) return -1;
    number = number * 10 + (*text - '0');
  }
  return number;
}

/* -- Everything that belongs to the attempt -------------------------------------------------------------------------- */

struct Process {
  int pid, parent;
};

static struct Process processes[kMaxPids];

/* `pid (name) S parent …`; the name may hold anything but its last `)`. */
static int ParentOf(const char *directory) {
  char path[32] = "/proc/";
  char text[512];
  size_t at = 6;
  for (size_t i = 0; directory[i] != '\0' && at < 20; ++i) path[at++] = directory[i];
  for (const char *rest = "/stat"; *rest != '\0'; ++rest) path[at++] = *rest;
  path[at] = '\0';
  long fd = Open(path, O_RDONLY, 0);
  if (fd < 0) return -1;
  long size = Call(SYS_read, fd, (long)text, sizeof text - 1, 0);
  Close(fd);
  if (size <= 0) return -1;
  text[size] = '\0';
  char *end = text + size;
  while (end > text && *end != ')') --end;
  if (*end != ')' || end[1] != ' ' || end[2] == '\0' || end[3] != ' ') return -1;
  int parent = 0;
  for (char *digit = end + 4; *digit >= '0' && *digit <= '9'; ++digit) parent = parent * 10 + (*digit - '0');
  return parent;
}

/* To every descendant. As many as the table holds at once: KILL is repeated until none is left. */
static void SignalTree(int signal) {
  long self = Call(SYS_getpid, 0, 0, 0, 0);
  if (self == 1) {
    Kill(-1, signal);
    return;
  }
  long proc = Open("/proc", O_RDONLY | O_DIRECTORY, 0);
  if (proc < 0) return;
  static char entries[16384] __attribute__((aligned(8)));
  int count = 0;
  for (;;) {
    long size = Call(SYS_getdents64, proc, (long)entries, sizeof entries, 0);
    if (size <= 0) break;
    for (long at = 0; at < size;) {
      const char *entry = entries + at; /* u64 inode, s64 offset, u16 length, u8 type, name */
      uint16_t length;
      memcpy(&length, entry + 16, sizeof length);
      at += length;
      int64_t pid = Number(entry + 19);
      if (pid <= 0 || count == kMaxPids) continue;
      int parent = ParentOf(entry + 19);
      if (parent > 0) processes[count++] = (struct Process){(int)pid, parent};
    }
  }
  Close(proc);
  /* Those found become parents of others, until no more are; a signalled one has a negative pid. */
  for (int found = 1; found;) {
    found = 0;
    for (int i = 0; i < count; ++i) {
      if (processes[i].pid < 0) continue;
      int ours = processes[i].parent == self;
      for (int k = 0; k < count && !ours; ++k) ours = processes[k].pid == -processes[i].parent;
      if (ours) {
        Kill(processes[i].pid, signal);
        processes[i].pid = -processes[i].pid;
        found = 1;
      }
    }
  }
}

static void AskToEnd(void) {
  SignalTree(kTerm);
  SignalTree(kCont); /* what is stopped would never hear of it */
}

/* -- The program ----------------------------------------------------------------------------------------------------- */

static const char *Variable(char **env, const char *name) {
  size_t size = Length(name);
  for (; *env != NULL; ++env) {
    size_t i = 0;
    while (i < size && (*env)[i] == name[i]) ++i;
    if (i == size && (*env)[size] == '=') return *env + size + 1;
  }
  return NULL;
}

/* The environment with what `file` holds. NULL: it cannot be read. */
static char **Merge(char **env, const char *file) {
  struct stat info;
  long fd = Open(file, O_RDONLY, 0);
  if (fd < 0 || Call(SYS_fstat, fd, (long)&info, 0, 0) != 0) return NULL;
  if (info.st_size == 0) return env;
  const size_t size = (size_t)info.st_size;
  size_t count = 1;
  for (char **at = env; *at != NULL; ++at) ++count;
  /* One zero byte more than the file: its last entry ends in any case. An entry takes at least one byte. */
  const size_t names = (count + size) * sizeof(char *);
  char *memory = (char *)Map(names + size + 1);
  if (memory == NULL) return NULL;
  char **out = (char **)memory;
  char *text = memory + names;
  for (size_t done = 0; done < size;) {
    long part = Call(SYS_read, fd, (long)(text + done), (long)(size - done), 0);
    if (part == -EINTR) continue;
    if (part <= 0) return NULL;
    done += (size_t)part;
  }
  Close(fd);
  size_t have = 0;
  for (char **at = env; *at != NULL; ++at) out[have++] = *at;
  for (char *entry = text; entry < text + size; entry += Length(entry) + 1) {
    size_t name = 0;
    while (entry[name] != '\0' && entry[name] != '=') ++name;
    if (entry[name] == '\0') continue;
    size_t slot = 0;
    for (; slot < have; ++slot) {
      size_t same = 0;
      while (same <= name && out[slot][same] == entry[same]) ++same;
      if (same > name) break;
    }
    out[slot] = entry;
    if (slot == have) ++have;
  }
  out[have] = NULL;
  return out;
}

/* As execvpe(3), but what is no program is not given to a shell. Gives what was wrong. */
static int Execute(char **argv, char **env) {
  const char *name = argv[0];
  if (*name == '\0') return ENOENT;
  for (const char *c = name; *c != '\0'; ++c) {
    if (*c == '/') return (int)-Call(SYS_execve, (long)name, (long)argv, (long)env, 0);
  }
  const char *search = Variable(env, "PATH");
  if (search == NULL) search = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  size_t name_size = Length(name);
  int problem = ENOENT;
  for (;;) {
    const char *end = search;
    while (*end != '\0' && *end != ':') ++end;
    size_t size = (size_t)(end - search);
    char path[4096];
    if (size + name_size + 3 < sizeof path) {
      size_t at = 0;
      if (size == 0) path[at++] = '.';
      for (size_t i = 0; i < size; ++i) path[at++] = search[i];
      path[at++] = '/';
      memcpy(path + at, name, name_size + 1);
      int error = (int)-Call(SYS_execve, (long)path, (long)argv, (long)env, 0);
      if (error == EACCES) problem = EACCES;
      else if (error != ENOENT && error != ENOTDIR && error != ENAMETOOLONG && error != ELOOP) return error;
    }
    if (*end == '\0') return problem;
    search = end + 1;
  }
}

static long Fork(void) {
#if defined(SYS_fork)
  return Call(SYS_fork, 0, 0, 0, 0);
#else
  return Call(SYS_clone, kChld, 0, 0, 0);
#endif
}

static void ResetSignals(void) {
  const uint64_t none = 0;
  const uint64_t standard[4] = {0, 0, 0, 0}; /* SIG_DFL, no flags, no restorer, no mask, in whichever order */
  for (int signal = 1; signal <= kSignals; ++signal) Call(SYS_rt_sigaction, signal, (long)standard, 0, 8);
  Call(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, (long)&none, 0, 8);
}

/* -- How it ended ---------------------------------------------------------------------------------------------------- */

/* Not every engine tells when memory ran out (podman 4.3 does not), the container's control group does: `oom_kill N`, in a
 * file of version 1 or 2. Only as PID 1: otherwise the group is not of this container alone. */
static int OomIn(const char *file) {
  long fd = Open(file, O_RDONLY, 0);
  if (fd < 0) return 0;
  char text[512];
  long size = Call(SYS_read, fd, (long)text, sizeof text - 1, 0);
  Close(fd);
  text[size > 0 ? size : 0] = '\0';
  for (const char *line = text; *line != '\0';) {
    const char *word = "oom_kill ";
    const char *at = line;
    while (*word != '\0' && *at == *word) ++at, ++word;
    if (*word == '\0') return *at >= '1' && *at <= '9';
    while (*line != '\0' && *line++ != '\n') {
    }
  }
  return 0;
}

static int RanOutOfMemory(void) {
  return Call(SYS_getpid, 0, 0, 0, 0) == 1 && (OomIn("/sys/fs/cgroup/memory/memory.oom_control") || OomIn("/sys/fs/cgroup/memory.events"));
}

struct End {
  const char *how;
  int64_t number;
  int limit;
  int64_t began, ended;
};

static void Report(const char *file, const struct End *end) {
  struct Text temporary = {{0}, 0};
  if (file == NULL || Length(file) + 8 > sizeof temporary.bytes) return;
  struct rusage usage;
  memset(&usage, 0, sizeof usage);
  Call(SYS_getrusage, -1 /* RUSAGE_CHILDREN */, (long)&usage, 0, 0);
  struct Text text = {{0}, 0};
  AddText(&text, end->how), AddText(&text, " "), AddNumber(&text, end->number);
  if (RanOutOfMemory()) AddText(&text, "\noom");
  AddText(&text, end->limit ? "\nlimit\ntimes " : "\ntimes ");
  AddNumber(&text, end->began), AddText(&text, " "), AddNumber(&text, end->ended);
  AddText(&text, "\nusage ");
  AddNumber(&text, (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000);
  AddText(&text, " "), AddNumber(&text, usage.ru_maxrss), AddText(&text, "\n");
  /* Whole or not at all; and never through a link that the program may have put there. */
  AddText(&temporary, file), AddText(&temporary, ".new");
  Call(SYS_unlinkat, AT_FDCWD, (long)temporary.bytes, 0, 0);
  long fd = Open(temporary.bytes, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644);
  if (fd < 0) return;
  Write(fd, text.bytes, text.size);
  Close(fd);
  Call(SYS_renameat, AT_FDCWD, (long)temporary.bytes, AT_FDCWD, (long)file);
}

static int Usage(const char *problem, const char *what) {
  Say(problem, what);
  return 125;
}

static int Run(int count, char **argv, char **env) {
  int64_t limit = -1, grace = 10000;
  const char *file = NULL, *variables = NULL;
  int at = 1;
  for (; at < count && !Same(argv[at], "--"); at += 2) {
    if (at + 1 == count) return Usage("a value is missing after ", argv[at]);
    int64_t *number = Same(argv[at], "--limit") ? &limit : Same(argv[at], "--grace") ? &grace : NULL;
    if (number != NULL) {
      *number = Number(argv[at + 1]);
      if (*number < 0) return Usage("not a number of milliseconds: ", argv[at + 1]);
    } else if (Same(argv[at], "--end")) {
      file = argv[at + 1];
    } else if (Same(argv[at], "--env")) {
      variables = argv[at + 1];
    } else {
      return Usage("unknown option ", argv[at]);
    }
  }
  if (at + 1 >= count) return Usage("no program: ", "init [--limit MS] [--grace MS] [--end FILE] [--env FILE] -- PROGRAM [ARGUMENT...]");
  if (variables != NULL && (env = Merge(env, variables)) == NULL) return Usage("cannot read ", variables);
  char **program = argv + at + 1;

  const uint64_t all = ~(uint64_t)0;
  const uint64_t standard[4] = {0, 0, 0, 0};
  Call(SYS_rt_sigaction, kChld, (long)standard, 0, 8); /* if it is ignored, nobody can be waited for */
  Call(SYS_rt_sigprocmask, 2, (long)&all, 0, 8);
  Call(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0);

  struct End end = {"exit", 0, 0, NowMs(kClockRealtime), 0};
  const int64_t began = NowMs(kClockMonotonic);
  int wire[2];
  long child = Call(SYS_pipe2, (long)wire, O_CLOEXEC, 0, 0);
  if (child == 0) child = Fork();
  if (child == 0) {
    ResetSignals();
    Call(SYS_setsid, 0, 0, 0, 0);
    int problem = Execute(program, env);
    Write(wire[1], (const char *)&problem, sizeof problem);
    Exit(127);
  }
  int problem = 0;
  if (child < 0) {
    problem = (int)-child;
  } else {
    Close(wire[1]);
    long size;
    do size = Call(SYS_read, wire[0], (long)&problem, sizeof problem, 0);
    while (size == -EINTR);
    if (size != sizeof problem) problem = 0; /* closed by the program's start */
    Close(wire[0]);
  }

  int status = 0, ended = problem != 0, left = child > 0;
  int64_t kill_at = -1;
  while (!ended) {
    int one;
    for (long pid; (pid = Wait(&one)) > 0;) {
      if (pid == child) status = one, ended = 1;
    }
    if (ended) break;
    const int64_t now = NowMs(kClockMonotonic);
    /* Times are cut to whole milliseconds; one more, so that no limit comes early. */
    if (kill_at < 0 && limit >= 0 && now - began > limit) {
      end.limit = 1;
      kill_at = now + grace + 1;
      AskToEnd();
    }
    if (kill_at >= 0 && now >= kill_at) {
      SignalTree(kKill);
      kill_at = now + 100; /* what was being born */
    }
    int64_t wait = kill_at >= 0 ? kill_at - now : limit >= 0 ? limit + 1 - (now - began) : 3600000;
    struct Time time = {wait / 1000, wait % 1000 * 1000000};
    long signal = Call(SYS_rt_sigtimedwait, (long)&all, 0, (long)&time, 8);
    if (signal == kTerm) {
      if (kill_at < 0) {
        kill_at = NowMs(kClockMonotonic) + grace + 1;
        AskToEnd();
      }
    } else if (signal > 0 && signal != kChld) {
      Kill(-child, (int)signal);
    }
  }
  end.ended = NowMs(kClockRealtime);

  /* What it left. A process that the kernel cannot end yet does not hold this one up for ever. */
  const int64_t give_up = NowMs(kClockMonotonic) + 10000;
  for (int one; left;) {
    long pid = Wait(&one);
    if (pid > 0) continue;
    if (pid == -ECHILD || NowMs(kClockMonotonic) >= give_up) break;
    SignalTree(kKill);
    struct Time time = {0, 20000000};
    const uint64_t children = (uint64_t)1 << (kChld - 1);
    Call(SYS_rt_sigtimedwait, (long)&children, 0, (long)&time, 8);
  }

  int code;
  if (problem != 0) {
    end.how = "start", end.number = problem;
    code = problem == ENOENT || problem == ENOTDIR ? 127 : 126;
    Say("cannot start ", program[0]);
  } else if ((status & 0x7f) == 0) {
    end.how = "exit", end.number = code = status >> 8 & 0xff;
  } else {
    end.how = "signal", end.number = status & 0x7f;
    code = 128 + (status & 0x7f);
  }
  Report(file, &end);
  return code;
}

__attribute__((used)) void Start(long *stack) {
  int count = (int)stack[0];
  char **argv = (char **)(stack + 1);
  Exit(Run(count, argv, argv + count + 1));
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n  xor %ebp, %ebp\n  mov %rsp, %rdi\n  and $-16, %rsp\n  call Start\n");
#else
__asm__(".globl _start\n_start:\n  mov x29, #0\n  mov x30, #0\n  mov x0, sp\n  bl Start\n");
#endif

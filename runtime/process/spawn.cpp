#include "runtime/process/spawn.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include <fmt/format.h>

#include "runtime/process/os.h"

namespace jobc::process {
namespace {

constexpr uint64_t kCloneIntoCgroup = 0x200000000ULL;
constexpr size_t kStackBytes = 256 * 1024;

/// struct clone_args of <linux/sched.h>, up to `cgroup`, so that older kernel headers do.
struct CloneArgs {
  uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

/// What the child needs; it shares our memory, so its failure comes back in here.
struct ChildContext {
  const SpawnRequest* request;
  const std::vector<std::string>* candidates;
  int error = 0;
  SpawnStage stage = SpawnStage::kExec;
  const std::string* tried = nullptr;
};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define JOBC_NO_SANITIZE __attribute__((no_sanitize("address", "thread", "undefined")))
#else
#define JOBC_NO_SANITIZE
#endif

/// Runs in the child, on its own stack but in our memory: system calls only, no allocation.
JOBC_NO_SANITIZE int ChildMain(void* argument) {
  auto* context = static_cast<ChildContext*>(argument);
  const SpawnRequest& request = *context->request;
  auto fail = [&](SpawnStage stage) {
    context->error = errno;
    context->stage = stage;
    _exit(127);
  };
  if (request.die_with_parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
  }
  setsid();
  if (request.join) {
    for (int fd : *request.join) {
      if (write(fd, "0", 1) != 1) {
        fail(SpawnStage::kFork);
      }
    }
  }
  if (request.file_limit) {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = request.file_limit;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  if (dup2(request.stdout_fd, 1) < 0 || dup2(request.stderr_fd, 2) < 0) {
    fail(SpawnStage::kFork);
  }
  if (chdir(request.directory) != 0) {
    fail(SpawnStage::kDirectory);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  int error = ENOENT;
  const std::string* tried = nullptr;
  for (const std::string& candidate : *context->candidates) {
    execve(candidate.c_str(), request.argv, request.envp);
    if (errno == ENOENT || errno == ENOTDIR) {
      // A missing interpreter also says ENOENT: then the file itself is there, and the search ends at it.
      if (access(candidate.c_str(), F_OK) != 0) {
        continue;
      }
      errno = ENOENT;
    }
    // A program that may not be executed does not hide one further down the PATH.
    if (error == ENOENT || errno != EACCES) {
      error = errno;
      tried = &candidate;
    }
    if (errno != EACCES) {
      break;
    }
  }
  context->error = error;
  context->tried = tried;
  context->stage = SpawnStage::kExec;
  _exit(127);
}

/// clone3() with a stack of its own for the child, which calls `child(argument)` and never returns.
__attribute__((noinline)) long CloneChild(CloneArgs* args, size_t size, int (*child)(void*), void* argument) {
#if defined(__x86_64__)
  long result;
  __asm__ volatile(
      "syscall\n\t"
      "testq %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "xorl %%ebp, %%ebp\n\t"
      "movq %[argument], %%rdi\n\t"
      "callq *%[child]\n\t"
      "hlt\n"
      "1:\n\t"
      : "=a"(result)
      : "0"(static_cast<long>(SYS_clone3)), "D"(args), "S"(size), [child] "r"(child), [argument] "r"(argument)
      : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long x8 __asm__("x8") = SYS_clone3;
  register long x0 __asm__("x0") = reinterpret_cast<long>(args);
  register long x1 __asm__("x1") = static_cast<long>(size);
  __asm__ volatile(
      "svc #0\n\t"
      "cbnz x0, 1f\n\t"
      "mov x29, #0\n\t"
      "mov x0, %[argument]\n\t"
      "blr %[child]\n\t"
      "brk #0\n"
      "1:\n\t"
      : "+r"(x0)
      : "r"(x8), "r"(x1), [child] "r"(child), [argument] "r"(argument)
      : "memory", "x30");
  return x0;
#else
  return -ENOSYS;
#endif
}

/// One child at a time runs on it, because the parent waits for its exec: so one stack does for ever.
char* ChildStack() {
  thread_local char* stack = nullptr;
  if (!stack) {
    void* memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    stack = memory == MAP_FAILED ? nullptr : static_cast<char*>(memory);
  }
  return stack;
}

JOBC_NO_SANITIZE int ExitMain(void*) { _exit(0); }

std::string_view Environment(char* const* envp, std::string_view name) {
  for (; *envp; ++envp) {
    if (strncmp(*envp, name.data(), name.size()) == 0 && (*envp)[name.size()] == '=') {
      return *envp + name.size() + 1;
    }
  }
  return "/usr/local/bin:/usr/bin:/bin";
}

/// The interpreter that the first line of `path` names, or empty.
std::string Interpreter(const std::string& directory, const std::string& path) {
  std::string full = path.empty() || path[0] == '/' ? path : directory + '/' + path;
  UniqueFd fd(open(full.c_str(), O_RDONLY | O_CLOEXEC));
  char text[256];
  std::string_view line = fd ? ReadFd(fd.get(), text, sizeof text) : std::string_view();
  if (line.substr(0, 2) != "#!") {
    return line.substr(0, 4) == "\177ELF" ? "its dynamic loader" : "";
  }
  line = line.substr(2, line.find('\n') == std::string_view::npos ? line.npos : line.find('\n') - 2);
  size_t begin = line.find_first_not_of(" \t");
  if (begin == line.npos) {
    return "";
  }
  line.remove_prefix(begin);
  return std::string(line.substr(0, line.find_first_of(" \t")));
}

uint64_t TotalBytes(char* const* strings) {
  uint64_t bytes = sizeof(char*);
  for (; *strings; ++strings) {
    bytes += strlen(*strings) + 1 + sizeof(char*);
  }
  return bytes;
}

/// execve(): a quarter of the stack limit, at most 6 MiB, at least 128 KiB.
uint64_t TotalLimit() {
  rlimit limit{};
  getrlimit(RLIMIT_STACK, &limit);
  uint64_t quarter = limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur / 4;
  return std::max<uint64_t>(std::min<uint64_t>(quarter, 6 << 20), 128 << 10);
}

}  // namespace

SpawnOutcome Spawn(const SpawnRequest& request) {
  SpawnOutcome outcome;
  std::string_view program = request.argv[0] ? request.argv[0] : "";
  std::string_view search;
  std::vector<std::string> candidates;
  if (program.find('/') != std::string_view::npos) {
    candidates.emplace_back(program);
  } else if (!program.empty()) {
    search = Environment(request.envp, "PATH");
    for (std::string_view rest = search;;) {
      size_t end = rest.find(':');
      std::string_view dir = rest.substr(0, end);
      candidates.push_back(dir.empty() ? "./" + std::string(program) : std::string(dir) + '/' + std::string(program));
      if (end == std::string_view::npos) {
        break;
      }
      rest.remove_prefix(end + 1);
    }
  }
  char* stack = ChildStack();
  if (!stack) {
    outcome.failure = {SpawnStage::kFork, ENOMEM, std::string(program)};
    return outcome;
  }
  ChildContext context{&request, &candidates};
  long pid = -ENOSYS;
#if defined(__x86_64__) || defined(__aarch64__)
  CloneArgs args{};
  args.flags = CLONE_VM | CLONE_VFORK;
  args.exit_signal = SIGCHLD;
  args.stack = reinterpret_cast<uint64_t>(stack);
  args.stack_size = kStackBytes;
  size_t size = offsetof(CloneArgs, cgroup);
  if (request.cgroup_fd >= 0) {
    args.flags |= kCloneIntoCgroup;
    args.cgroup = static_cast<uint64_t>(request.cgroup_fd);
    size = sizeof args;
  }
  pid = CloneChild(&args, size, ChildMain, &context);
#endif
  if (pid < 0 && request.cgroup_fd >= 0 && pid != -EAGAIN && pid != -ENOMEM) {
    outcome.cgroup_refused = true;
    outcome.failure = {SpawnStage::kFork, static_cast<int>(-pid), std::string(program)};
    return outcome;
  }
  if (pid == -ENOSYS) {  // an old kernel, or a seccomp filter that does not know clone3
    pid = clone(ChildMain, stack + kStackBytes, CLONE_VM | CLONE_VFORK | SIGCHLD, &context);
    pid = pid < 0 ? -errno : pid;
  }
  if (pid < 0) {
    outcome.failure = {SpawnStage::kFork, static_cast<int>(-pid), std::string(program)};
    return outcome;
  }
  if (context.error == 0) {
    outcome.pid = static_cast<pid_t>(pid);
    return outcome;
  }
  int status = 0;
  while (waitpid(static_cast<pid_t>(pid), &status, 0) < 0 && errno == EINTR) {
  }
  SpawnFailure& failure = outcome.failure;
  failure.stage = context.stage;
  failure.error = context.error;
  failure.path = context.tried ? *context.tried : std::string(program);
  if (context.stage == SpawnStage::kDirectory) {
    failure.path = request.directory;
  } else if (context.stage == SpawnStage::kExec && context.error == ENOENT) {
    failure.stage = context.tried ? SpawnStage::kInterpreter : SpawnStage::kNotFound;
    failure.detail = context.tried ? Interpreter(request.directory, *context.tried) : std::string(search);
  } else if (context.error == E2BIG) {
    failure.stage = SpawnStage::kTotal;
    failure.bytes = TotalBytes(request.argv) + TotalBytes(request.envp);
    failure.limit = TotalLimit();
  } else if (context.error == EACCES && context.tried) {
    struct stat info {};
    if (stat(context.tried->c_str(), &info) == 0) {
      failure.detail = S_ISDIR(info.st_mode) ? "directory" : fmt::format("{:04o}", info.st_mode & 07777);
    }
  }
  return outcome;
}

bool CanBeBornIn(int cgroup_fd) {
  char* stack = ChildStack();
  if (!stack || cgroup_fd < 0) {
    return false;
  }
  CloneArgs args{};
  args.flags = CLONE_VM | CLONE_VFORK | kCloneIntoCgroup;
  args.exit_signal = SIGCHLD;
  args.stack = reinterpret_cast<uint64_t>(stack);
  args.stack_size = kStackBytes;
  args.cgroup = static_cast<uint64_t>(cgroup_fd);
  long pid = CloneChild(&args, sizeof args, ExitMain, nullptr);
  if (pid < 0) {
    return false;
  }
  int status = -1;
  while (waitpid(static_cast<pid_t>(pid), &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool CheckSizes(const std::vector<std::string>& argv, const std::vector<std::string>& env, SpawnFailure* failure) {
  for (size_t i = 0; i < argv.size(); ++i) {
    if (argv[i].size() > kMaxArgBytes) {
      *failure = {SpawnStage::kArgument, E2BIG, argv[0].substr(0, 200), "", i, argv[i].size(), kMaxArgBytes};
      return false;
    }
  }
  for (const std::string& entry : env) {
    if (entry.size() > kMaxArgBytes) {
      *failure = {SpawnStage::kEnvironment, E2BIG, argv.empty() ? "" : argv[0],
                  entry.substr(0, entry.find('=')), 0, entry.size(), kMaxArgBytes};
      return false;
    }
  }
  return true;
}

std::string SpawnFailure::Message() const {
  switch (stage) {
    case SpawnStage::kArgument:
      return fmt::format(
          "argument {} is {} bytes long, above the {} bytes that the kernel takes in one argument: pass the value as a File",
          index, bytes, limit);
    case SpawnStage::kEnvironment:
      return fmt::format(
          "environment variable `{}` with its value is {} bytes long, above the {} bytes that the kernel takes in one: "
          "pass the value as a File", detail, bytes, limit);
    case SpawnStage::kTotal:
      return fmt::format(
          "arguments and environment of `{}` are {} bytes together, above the limit of {} bytes: pass long lists as a File, "
          "or raise the stack limit (`ulimit -s`), of which a quarter may be used", path, bytes, limit);
    case SpawnStage::kFork:
      return fmt::format("cannot start a process for `{}`: {}{}", path, strerror(error),
                         error == EAGAIN ? " (the limit of processes is reached: see `ulimit -u` and pids.max)" : "");
    case SpawnStage::kDirectory:
      return fmt::format("cannot enter the working directory `{}`: {}", path, strerror(error));
    case SpawnStage::kNotFound:
      if (path.empty()) {
        return "the command is empty";
      }
      if (detail.empty()) {
        return fmt::format("no such program: `{}`", path);
      }
      return fmt::format("no program `{}` in any directory of PATH (`{}`)", path, detail);
    case SpawnStage::kInterpreter:
      if (detail.empty()) {
        return fmt::format("`{}` is there, but what it needs to be executed is missing", path);
      }
      return fmt::format("`{}` is there, but its interpreter is missing: {}", path,
                         detail[0] == '/' ? fmt::format("`{}`", detail) : detail);
    case SpawnStage::kExec:
      if (error == EACCES && detail == "directory") {
        return fmt::format("`{}` is a directory, not a program", path);
      }
      if (error == EACCES && !detail.empty()) {
        return fmt::format("`{}` may not be executed (mode {}): try `chmod +x {}`", path, detail, path);
      }
      if (error == ENOEXEC) {
        return fmt::format("`{}` is neither a program for this machine nor a script that begins with `#!`", path);
      }
      return fmt::format("cannot execute `{}`: {}", path, strerror(error));
    case SpawnStage::kSupervisor:
      if (error == 0) {
        return fmt::format("the process that was to supervise `{}` was killed from outside before it began", path);
      }
      return fmt::format("no supervisor can be made for `{}`: {}{}", path, strerror(error),
                         error == EMFILE ? " (raise the limit, see `ulimit -Hn`, or lower --max-parallel)" : "");
  }
  return {};
}

}  // namespace jobc::process

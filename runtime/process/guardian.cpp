#include "runtime/process/guardian.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <deque>
#include <memory>
#include <unordered_map>
#include <unordered_set>

#include <fmt/format.h>

#include "runtime/process/cgroup.h"
#include "runtime/process/process_tree.h"
#include "runtime/process/protocol.h"
#include "runtime/process/spawn.h"

namespace jobc::process {
namespace {

constexpr size_t kReceiveBytes = 64 * 1024;

/// Makes a freshly forked process independent of its parent's signals, terminal, directory and descriptors.
void Detach(int keep_fd, const char* name) {
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, nullptr);
  for (int signal = 1; signal < NSIG; ++signal) {
    ::signal(signal, SIG_DFL);  // what is ignored would stay ignored in every job
  }
  // It needs no variable, and what jobc was given (secrets among it) shall not be read from /proc/PID/environ of those
  // that outlive it. The mark of an outer run stays, as the way to find us.
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (strncmp(*entry, "JOB_RUN_ID=", 11) != 0) {
      explicit_bzero(*entry, strlen(*entry));
    }
  }
  setsid();
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  prctl(PR_SET_NAME, name);
  if (chdir("/") != 0) {
    _exit(1);
  }
  int null = open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3; ++fd) {
    if (null != fd) {
      dup2(null, fd);
    }
  }
  if (keep_fd != 3) {
    dup3(keep_fd, 3, O_CLOEXEC);
  }
  if (syscall(SYS_close_range, 4U, ~0U, 0U) != 0) {
    for (int fd = 4; fd < 65536; ++fd) {
      close(fd);
    }
  }
}

UniqueFd ChildSignals() {
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  return UniqueFd(signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
}

void DrainSignals(int fd) {
  signalfd_siginfo info[8];
  while (read(fd, info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
  }
}

/// Sends what it can; false if the other side is gone.
bool Flush(int fd, std::string* out) {
  size_t sent = 0;
  while (sent < out->size()) {
    ssize_t n = send(fd, out->data() + sent, out->size() - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      bool full = errno == EAGAIN;
      out->erase(0, sent);
      return full;
    }
    sent += static_cast<size_t>(n);
  }
  out->clear();
  return true;
}

ExitedBody MakeExited(int status, const rusage& usage) {
  ExitedBody body;
  body.status = status;
  body.wall_ms = WallMillis();
  body.max_rss_bytes = static_cast<uint64_t>(usage.ru_maxrss) * 1024;
  body.user_us = static_cast<uint64_t>(usage.ru_utime.tv_sec) * 1000000 + static_cast<uint64_t>(usage.ru_utime.tv_usec);
  body.system_us = static_cast<uint64_t>(usage.ru_stime.tv_sec) * 1000000 + static_cast<uint64_t>(usage.ru_stime.tv_usec);
  return body;
}

void AddFailure(FrameWriter writer, const FrameHead& head, const SpawnFailure& failure) {
  FailedBody body{static_cast<uint32_t>(failure.stage), failure.error, failure.index, failure.bytes, failure.limit};
  writer.Add(FrameKind::kSpawnFailed, head.slot, head.attempt, body, failure.path + '\0' + failure.detail + '\0');
}

/// A decoded kStart frame: pointers into the frame, which must stay where it is.
struct StartFrame {
  CgroupLimits limits;
  SpawnRequest request;
  std::vector<char*> argv;
  std::vector<char*> envp;

  bool Decode(std::string_view payload) {
    StartBody body;
    if (!TakeBody(&payload, &body)) {
      return false;
    }
    limits = {body.memory_bytes, body.cpu_milli, body.pids};
    auto take = [&] { return const_cast<char*>(TakeText(&payload).data()); };
    request.directory = take();
    argv.reserve(body.argc + 1);
    for (uint32_t i = 0; i < body.argc; ++i) {
      argv.push_back(take());
    }
    argv.push_back(nullptr);
    envp.reserve(body.envc + 1);
    for (uint32_t i = 0; i < body.envc; ++i) {
      envp.push_back(take());
    }
    envp.push_back(nullptr);
    request.argv = argv.data();
    request.envp = envp.data();
    return true;
  }
};

StartedBody MakeStarted(pid_t pid, const CgroupLimits& enforced) {
  return {pid, enforced.cpu_milli, enforced.pids, enforced.memory_bytes, WallMillis()};
}

/// What guardian and shims share of their start.
struct Common {
  GuardianOptions options;
  CgroupPlaces places;
  std::string group_name;   ///< the name that all groups of this guardian begin with
  std::string base;         ///< the group below which attempts are born; empty if there are none
  uint64_t file_limit = 0;  ///< the soft limit that attempts get back; 0 if it was not changed

  std::string LimitBase() const { return places.v2_limits + '/' + group_name + "-limits"; }
  std::string LimitName(uint64_t attempt) const { return fmt::format("{}-{}", group_name, attempt); }
};

/// In FrameHead::reserved of a kStart that the guardian passes on: version 2 limits are ready for use.
constexpr uint32_t kV2LimitsReady = 1;

/// The supervisor of one slot: starts its attempts one after the other and ends their trees. Runs in a process of its
/// own and never returns.
class Shim {
 public:
  Shim(const Common& common, uint32_t slot) : common_(common), slot_(slot), base_(common.base) {}

  [[noreturn]] void Run() {
    UniqueFd signals = ChildSignals();
    UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
    epoll_event event{EPOLLIN, {.u32 = 0}};
    epoll_ctl(epoll.get(), EPOLL_CTL_ADD, kSocket, &event);
    event.data.u32 = 1;
    epoll_ctl(epoll.get(), EPOLL_CTL_ADD, signals.get(), &event);
    for (;;) {
      epoll_event events[2];
      int n = epoll_wait(epoll.get(), events, 2, -1);
      for (int i = 0; i < n; ++i) {
        if (events[i].data.u32 == 1) {
          DrainSignals(signals.get());
          Reap();
        } else {
          Receive();
        }
      }
      Send();
    }
  }

  // Where BecomeShim() puts what a shim needs.
  static constexpr int kSocket = 3;
  static constexpr int kStdout = 4;
  static constexpr int kStderr = 5;

 private:
  void Receive() {
    ssize_t n = recv(kSocket, reader_.Space(kReceiveBytes), kReceiveBytes, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
      // Our guardian is gone or does not need us any more: nothing may stay alive.
      if (leader_ != 0) {
        KillGroup();
      }
      EndDescendants({}, MonotonicMillis() + 10000, nullptr);
      limits_.Remove();
      DropGroup();
      if (!secrets_.empty()) {
        // If the guardian was killed together with jobc, nobody else does it now.
        (void)RemoveTree(secrets_).ok();
        rmdir(secrets_.substr(0, secrets_.rfind('/')).c_str());  // the run's, empty after the last attempt's
      }
      _exit(0);
    }
    reader_.Received(n > 0 ? static_cast<size_t>(n) : 0);
    FrameHead head;
    std::string_view payload;
    while (reader_.Next(&head, &payload)) {
      if (head.kind == FrameKind::kStart) {
        Start(head, payload);
      } else if (leader_ != 0 && head.attempt == head_.attempt) {
        SignalBody body;
        if (head.kind == FrameKind::kSignal && TakeBody(&payload, &body)) {
          SignalAll(body.signal);
        } else if (head.kind == FrameKind::kKillTree) {
          kill(leader_, SIGKILL);
          End(true);
        }
      }
    }
  }

  void Start(const FrameHead& head, std::string_view payload) {
    StartFrame start;
    if (!start.Decode(payload)) {
      return;
    }
    secrets_.clear();
    for (const char* entry : start.envp) {
      constexpr std::string_view kName = "JOB_SECRETS=";  // only jobc sets JOB_ variables
      if (entry != nullptr && std::string_view(entry).starts_with(kName)) {
        secrets_ = entry + kName.size();
      }
    }
    // A program may have set O_NONBLOCK or the like on the pipe's end, which the next one would inherit.
    fcntl(kStdout, F_SETFL, O_WRONLY);
    fcntl(kStderr, F_SETFL, O_WRONLY);
    MakeGroup();
    std::vector<int> join;
    UniqueFd limit_fd;
    if (start.limits.any() && common_.options.use_limits) {
      limits_ = LimitGroups::Make(common_.places, head.reserved & kV2LimitsReady ? common_.LimitBase() : std::string(),
                                  common_.LimitName(head.attempt), start.limits);
      for (const UniqueFd& fd : limits_.join()) {
        join.push_back(fd.get());
      }
      if (!limits_.v2_path().empty()) {
        limit_fd.Reset(open(limits_.v2_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        limit_events_fd_.Reset(open((limits_.v2_path() + "/cgroup.events").c_str(), O_RDONLY | O_CLOEXEC));
      }
    }
    start.request.stdout_fd = kStdout;
    start.request.stderr_fd = kStderr;
    start.request.join = &join;
    start.request.cgroup_fd = limit_events_fd_ ? limit_fd.get() : group_fd_.get();
    start.request.file_limit = common_.file_limit;
    start.request.die_with_parent = true;
    SpawnOutcome outcome = Spawn(start.request);
    if (outcome.cgroup_refused) {
      DropGroup();
      base_.clear();
      limit_events_fd_.Reset();
      start.request.cgroup_fd = -1;
      outcome = Spawn(start.request);
    }
    if (outcome.pid == 0) {
      AddFailure(FrameWriter(&out_), head, outcome.failure);
      EndLimits();
      return;
    }
    leader_ = outcome.pid;
    head_ = head;
    FrameWriter(&out_).Add(FrameKind::kStarted, head.slot, head.attempt, MakeStarted(leader_, limits_.enforced()));
  }

  // The group that attempts are born in.

  void MakeGroup() {
    if (base_.empty() || group_fd_) {
      return;
    }
    group_ = fmt::format("{}/{}.{}.{}", base_, slot_, getpid(), generation_++);
    if (mkdir(group_.c_str(), 0755) == 0) {
      group_fd_.Reset(open(group_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      events_fd_.Reset(open((group_ + "/cgroup.events").c_str(), O_RDONLY | O_CLOEXEC));
    }
    if (!group_fd_ || !events_fd_) {
      DropGroup();
      base_.clear();
    }
  }

  void DropGroup() {
    group_fd_.Reset();
    events_fd_.Reset();
    spent_ = false;
    if (!group_.empty()) {
      RemoveCgroup(group_);
      group_.clear();
    }
  }

  void EndLimits() {
    limit_events_fd_.Reset();
    limits_.Remove();
    limits_ = LimitGroups();
  }

  const std::string& LiveGroup() const { return limit_events_fd_ ? limits_.v2_path() : group_; }

  bool Populated() const {
    int fd = limit_events_fd_ ? limit_events_fd_.get() : events_fd_.get();
    char text[256];
    return fd >= 0 && ReadFd(fd, text, sizeof text).find("populated 1") != std::string_view::npos;
  }

  /// A group is not used again after a kill: kernels with a kill sequence number (seen on 6.18) compare that of the
  /// parent's group with that of the child's, so whatever is born into a group that was killed once dies at birth.
  void KillGroup() {
    if (!LiveGroup().empty()) {
      KillCgroup(LiveGroup());
      spent_ = spent_ || !limit_events_fd_;
    }
  }

  void SignalAll(int signal) {
    if (!LiveGroup().empty()) {
      SignalCgroup(LiveGroup(), signal);
      return;
    }
    for (pid_t pid : Descendants(getpid())) {
      kill(pid, signal);
    }
  }

  OnChild Watch() {
    return [this](pid_t pid, int status, const rusage& usage) {
      if (pid == leader_) {
        leader_ended_ = true;
        ExitedBody exited = MakeExited(status, usage);
        if (limits_.enforced().any()) {
          exited.oom = limits_.OomKills() > 0;
          exited.peak_bytes = limits_.PeakMemory();
        }
        FrameWriter(&out_).Add(FrameKind::kExited, head_.slot, head_.attempt, exited);
      }
    };
  }

  void Reap() {
    bool others = ReapChildren(Watch());
    if (leader_ended_) {
      others = others || Populated();
      if (others) {
        Send();  // the end of the program is known now, the end of its tree may take longer
      }
      End(others);
    }
  }

  /// Ends what is left of the tree, if there may be `others`, and says that it is reaped.
  void End(bool others) {
    ReapedBody body;
    if (others) {
      KillGroup();
      // What the group's end killed arrives here within a moment; only what is still there then is searched for.
      bool children = true;
      for (int round = 0; round < 20 && children && !LiveGroup().empty(); ++round) {
        children = ReapChildren(Watch());
        if (children) {
          WaitForChild(1);
        }
      }
      if (children) {
        body.left = static_cast<uint32_t>(EndDescendants({}, INT64_MAX, Watch()));
      }
      for (int round = 0; Populated() && round < 10000; ++round) {
        WaitForChild(1);
        ReapChildren(Watch());
        if (round % 20 == 19) {
          KillGroup();
        }
      }
    }
    FrameWriter(&out_).Add(FrameKind::kReaped, head_.slot, head_.attempt, body);
    if (limits_.enforced().any() || limit_events_fd_) {
      EndLimits();
    }
    if (spent_) {
      DropGroup();
    }
    leader_ = 0;
    leader_ended_ = false;
  }

  static void WaitForChild(int ms) {
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    timespec wait{0, ms * 1000000L};
    sigtimedwait(&child, nullptr, &wait);
  }

  void Send() {
    while (!out_.empty() && Flush(kSocket, &out_) && !out_.empty()) {
      timespec wait{0, 1000 * 1000};
      nanosleep(&wait, nullptr);
    }
    out_.clear();
  }

  const Common& common_;
  uint32_t slot_;
  std::string base_;
  FrameReader reader_;
  std::string out_;
  FrameHead head_;
  std::string secrets_;  ///< directory of secret files of the attempt
  pid_t leader_ = 0;
  bool leader_ended_ = false;
  std::string group_;
  UniqueFd group_fd_;
  UniqueFd events_fd_;
  uint32_t generation_ = 0;
  bool spent_ = false;  ///< cgroup.kill was used on the group
  LimitGroups limits_;
  UniqueFd limit_events_fd_;
};

class Guardian {
 public:
  explicit Guardian(const GuardianOptions& options) { common_.options = options; }

  [[noreturn]] void Run() {
    RaiseFileLimit();
    signals_ = ChildSignals();
    epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
    Watch(kSocket, EPOLLIN, kSocketTag);
    Watch(signals_.get(), EPOLLIN, kSignalTag);
    common_.places = FindCgroupPlaces();
    std::optional<ProcessInfo> self = ReadProcess(getpid());
    start_ticks_ = self ? self->start_ticks : 0;
    common_.group_name = fmt::format("jobc-{}-{}", getpid(), start_ticks_);
    bool open = true;
    while (open) {
      epoll_event events[64];
      int n = epoll_wait(epoll_.get(), events, 64, -1);
      bool socket_ready = false;
      for (int i = 0; i < n; ++i) {
        uint64_t tag = events[i].data.u64;
        if (tag == kSocketTag) {
          socket_ready = (events[i].events & ~EPOLLOUT) != 0;
        } else if (tag == kSignalTag) {
          DrainSignals(signals_.get());
          ReapChildren(WatchShims());
          SettleShims();
        } else {
          Slot& slot = slots_[tag - kShimTag];
          if (slot.shim_socket && ReceiveFromShim(slot) < 0) {
            // Dead, or cut off from us (it ran out of descriptors): one that cannot be heard must not live on.
            if (slot.shim) {
              kill(slot.shim, SIGKILL);
            }
            shim_died_ = true;
            SettleShims();
          }
        }
      }
      if (socket_ready) {
        open = Receive();
      }
      open = open && Flush(kSocket, &out_);
      WatchForRoom(!out_.empty());
    }
    Finish();
    _exit(0);
  }

 private:
  static constexpr int kSocket = 3;
  static constexpr uint64_t kSocketTag = 1;
  static constexpr uint64_t kSignalTag = 2;
  static constexpr uint64_t kShimTag = 1000;

  struct Slot {
    UniqueFd stdout_fd;
    UniqueFd stderr_fd;
    uint64_t attempt = 0;    ///< the attempt in it, if busy
    bool busy = false;
    bool exit_told = false;  ///< its kExited was passed on
    pid_t shim = 0;
    UniqueFd shim_socket;
    std::unique_ptr<FrameReader> shim_reader;
  };

  void Watch(int fd, uint32_t events, uint64_t tag) {
    epoll_event event{events, {.u64 = tag}};
    epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event);
  }

  void WatchForRoom(bool wanted) {
    if (wanted != watching_room_) {
      epoll_event event{EPOLLIN | (wanted ? uint32_t{EPOLLOUT} : 0U), {.u64 = kSocketTag}};
      epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, kSocket, &event);
      watching_room_ = wanted;
    }
  }

  void RaiseFileLimit() {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < limit.rlim_max) {
      common_.file_limit = limit.rlim_cur;
      limit.rlim_cur = limit.rlim_max;
      setrlimit(RLIMIT_NOFILE, &limit);
    }
  }

  FrameWriter Answer() { return FrameWriter(&out_); }

  /// Reads and obeys what jobc sent. False if jobc is gone or said good-bye.
  bool Receive() {
    iovec part{reader_.Space(kReceiveBytes), kReceiveBytes};
    alignas(cmsghdr) char control[CMSG_SPACE(16 * sizeof(int))];
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    ssize_t n = recvmsg(kSocket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
      return false;
    }
    if (n > 0 && (message.msg_flags & MSG_CTRUNC) != 0) {
      // Descriptors were lost, as this process may open no more: which attempt's they were cannot be told, so none can be
      // supervised any longer. jobc hears of the end of the guardian and fails what runs with `node_lost`.
      return false;
    }
    for (cmsghdr* c = n > 0 ? CMSG_FIRSTHDR(&message) : nullptr; c; c = CMSG_NXTHDR(&message, c)) {
      if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; ++i) {
          int fd = -1;
          memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
          received_fds_.emplace_back(fd);
        }
      }
    }
    reader_.Received(n > 0 ? static_cast<size_t>(n) : 0);
    FrameHead head;
    std::string_view payload;
    while (reader_.Next(&head, &payload)) {
      if (head.kind == FrameKind::kBye) {
        return false;
      }
      Obey(head, payload);
    }
    return true;
  }

  void Obey(const FrameHead& head, std::string_view payload) {
    if (head.slot >= slots_.size()) {
      slots_.resize(std::min<size_t>(head.slot + 1, 65536));
    }
    Slot& slot = slots_[head.slot];
    switch (head.kind) {
      case FrameKind::kBegin:
        Begin(payload);
        break;
      case FrameKind::kSlot:
        if (received_fds_.size() >= 2) {
          slot.stdout_fd = std::move(received_fds_[0]);
          slot.stderr_fd = std::move(received_fds_[1]);
          received_fds_.erase(received_fds_.begin(), received_fds_.begin() + 2);
          CloseShim(slot);
        }
        break;
      case FrameKind::kStart:
        Start(slot, head, payload, reader_.WholeFrame());
        break;
      case FrameKind::kSignal:
      case FrameKind::kKillTree:
        if (slot.busy && slot.attempt == head.attempt && slot.shim_socket) {
          SendToShim(slot, reader_.WholeFrame());
        }
        break;
      case FrameKind::kRegister:
        registered_.emplace_back(payload);
        AppendRecord(fmt::format("remove {}\n", payload));
        break;
      case FrameKind::kUnregister:
        if (auto it = std::find(registered_.begin(), registered_.end(), payload); it != registered_.end()) {
          registered_.erase(it);
          AppendRecord(fmt::format("keep {}\n", payload));
        }
        break;
      default:
        break;
    }
  }

  void Begin(std::string_view payload) {
    std::string run_id(TakeText(&payload));
    std::string state_dir(TakeText(&payload));
    std::string base = common_.options.use_cgroups && !common_.places.v2.empty()
                           ? common_.places.v2 + '/' + common_.group_name
                           : std::string();
    if (!state_dir.empty()) {
      std::string dir = state_dir + "/live";
      record_ = fmt::format("{}/{}-{}", dir, run_id, getpid());
      std::optional<ProcessInfo> jobc = ReadProcess(getppid());
      char host[256] = "";
      gethostname(host, sizeof host - 1);
      std::string text = fmt::format("jobc live run 1\nrun {}\nhost {}\nboot {}\npidns {}\njobc {} {}\nguardian {} {}\n",
                                     run_id, host, BootId(), PidNamespace(), getppid(), jobc ? jobc->start_ticks : 0,
                                     getpid(), start_ticks_);
      if (!base.empty()) {
        text += fmt::format("group {}\n", base);
      }
      if (!common_.places.v2_limits.empty()) {
        text += fmt::format("group {}\n", common_.LimitBase());
      }
      for (const std::string& place : {common_.places.v1_memory, common_.places.v1_cpu, common_.places.v1_pids}) {
        if (!place.empty()) {
          text += fmt::format("prefix {}/{}-\n", place, common_.group_name);
        }
      }
      record_fd_.Reset(open(record_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644));
      if (!record_fd_ && errno == ENOENT) {
        (void)MakeDirectories(dir).ok();
        record_fd_.Reset(open(record_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644));
      }
      AppendRecord(text);
    }
    // Tried once, as there are kernels and containers that make groups but do not let (live) processes be born there.
    if (!base.empty() && mkdir(base.c_str(), 0755) == 0) {
      if (CanBeBornIn(UniqueFd(open(base.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)).get())) {
        common_.base = base;
      } else {
        rmdir(base.c_str());
      }
    }
    Answer().Add(FrameKind::kReady, 0, 0, ReadyBody{!common_.base.empty()}, common_.base);
  }

  void AppendRecord(std::string_view text) {
    if (record_fd_ && write(record_fd_.get(), text.data(), text.size()) < 0) {
      record_fd_.Reset();  // the record only matters if both of us are killed; a full disk must not end the run here
    }
  }

  /// True if attempts can get version 2 limits; enables the controllers on first use.
  bool V2Limits() {
    if (!v2_limits_tried_) {
      v2_limits_tried_ = true;
      // Where nothing can be born into groups, nothing can get limits that way either.
      bool can_be_born = !common_.options.use_cgroups || !common_.base.empty();
      v2_limits_ready_ = can_be_born && !common_.places.v2_limits.empty() && common_.options.use_limits &&
                         PrepareV2Limits(common_.places, common_.LimitBase(), {getpid(), getppid()}).ok();
    }
    return v2_limits_ready_;
  }

  void Start(Slot& slot, const FrameHead& head, std::string_view payload, std::string_view frame) {
    if (!slot.shim_socket && !StartShim(slot, head)) {
      return;
    }
    slot.busy = true;
    slot.exit_told = false;
    slot.attempt = head.attempt;
    StartBody body;
    if (TakeBody(&payload, &body) && (body.memory_bytes || body.cpu_milli || body.pids) && V2Limits()) {
      FrameHead marked = head;
      marked.reserved = kV2LimitsReady;
      SendToShim(slot, std::string_view(reinterpret_cast<const char*>(&marked), sizeof marked));
      frame.remove_prefix(sizeof marked);
    }
    SendToShim(slot, frame);
  }

  bool StartShim(Slot& slot, const FrameHead& head) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
      AddFailure(Answer(), head, {SpawnStage::kFork, errno, "supervisor"});
      return false;
    }
    // Not fork(): libuv's atfork handler would close descriptors that jobc's loop had, by numbers that are ours now.
    pid_t pid = static_cast<pid_t>(syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr));
    if (pid == 0) {
      BecomeShim(pair[1], slot.stdout_fd.get(), slot.stderr_fd.get(), head.slot);
    }
    int error = errno;
    close(pair[1]);
    UniqueFd socket(pair[0]);
    if (pid < 0) {
      AddFailure(Answer(), head, {SpawnStage::kFork, error, "supervisor"});
      return false;
    }
    slot.shim = pid;
    slot.shim_socket = std::move(socket);
    slot.shim_reader = std::make_unique<FrameReader>();
    Watch(slot.shim_socket.get(), EPOLLIN, kShimTag + head.slot);
    return true;
  }

  OnChild WatchShims() {
    return [this](pid_t pid, int, const rusage&) {
      closing_shims_.erase(pid);
      for (Slot& slot : slots_) {
        if (slot.shim == pid) {
          slot.shim = 0;
          shim_died_ = true;
        }
      }
    };
  }

  [[noreturn]] void BecomeShim(int socket, int stdout_fd, int stderr_fd, uint32_t slot) {
    setsid();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_NAME, "job-shim");
    // Everything but the socket and the pipes belongs to the guardian: a copy of its socket would hide jobc's death.
    int high_socket = fcntl(socket, F_DUPFD_CLOEXEC, 64);
    int high_out = fcntl(stdout_fd, F_DUPFD_CLOEXEC, 64);
    int high_err = fcntl(stderr_fd, F_DUPFD_CLOEXEC, 64);
    dup3(high_socket, Shim::kSocket, O_CLOEXEC);
    dup3(high_out, Shim::kStdout, O_CLOEXEC);
    dup3(high_err, Shim::kStderr, O_CLOEXEC);
    if (syscall(SYS_close_range, 6U, ~0U, 0U) != 0) {
      for (int fd = 6; fd < 65536; ++fd) {
        close(fd);
      }
    }
    Shim(common_, slot).Run();
  }

  void SendToShim(Slot& slot, std::string_view frame) {
    // A shim reads at once, so this is at most a short wait for room in the socket.
    while (!frame.empty()) {
      ssize_t n = send(slot.shim_socket.get(), frame.data(), frame.size(), MSG_NOSIGNAL);
      if (n < 0 && errno != EINTR) {
        return;  // it was killed: its end comes with SIGCHLD
      }
      frame.remove_prefix(n > 0 ? static_cast<size_t>(n) : 0);
    }
  }

  /// Passes on what a shim said. 1: something came, 0: nothing for now, -1: the shim has closed its end.
  int ReceiveFromShim(Slot& slot) {
    ssize_t n = recv(slot.shim_socket.get(), slot.shim_reader->Space(kReceiveBytes), kReceiveBytes, MSG_DONTWAIT);
    if (n <= 0) {
      return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
    }
    slot.shim_reader->Received(static_cast<size_t>(n));
    FrameHead head;
    std::string_view payload;
    while (slot.shim_reader->Next(&head, &payload)) {
      if (head.kind == FrameKind::kReaped || head.kind == FrameKind::kSpawnFailed) {
        slot.busy = false;
      } else if (head.kind == FrameKind::kExited || head.kind == FrameKind::kStarted) {
        slot.exit_told = head.kind == FrameKind::kExited;
      }
      out_ += slot.shim_reader->WholeFrame();
    }
    return 1;
  }

  void CloseShim(Slot& slot) {
    if (slot.shim_socket) {
      slot.shim_socket.Reset();
      if (slot.shim) {
        closing_shims_.insert(slot.shim);
      }
      slot.shim = 0;
      slot.shim_reader.reset();
    }
  }

  std::vector<pid_t> LiveShims() const {
    std::vector<pid_t> shims(closing_shims_.begin(), closing_shims_.end());
    for (const Slot& slot : slots_) {
      if (slot.shim) {
        shims.push_back(slot.shim);
      }
    }
    return shims;
  }

  /// After a shim was killed: what it supervised has become ours and is ended here.
  void SettleShims() {
    if (!shim_died_) {
      return;
    }
    shim_died_ = false;
    for (uint32_t index = 0; index < slots_.size(); ++index) {
      Slot& slot = slots_[index];
      if (!slot.shim_socket || (slot.shim && IsAlive(slot.shim, 0))) {
        continue;
      }
      while (ReceiveFromShim(slot) > 0) {  // what it said last
      }
      slot.shim = 0;
      slot.shim_socket.Reset();
      slot.shim_reader.reset();
      if (!slot.busy) {
        continue;
      }
      KillGroupsOf(index, slot.attempt);
      ReapedBody reaped;
      reaped.left = static_cast<uint32_t>(EndDescendants(LiveShims(), MonotonicMillis() + 2000, WatchShims()));
      KillGroupsOf(index, slot.attempt);
      if (!slot.exit_told) {
        ExitedBody exited = MakeExited(SIGKILL, rusage{});
        exited.lost = 1;
        Answer().Add(FrameKind::kExited, index, slot.attempt, exited);
      }
      Answer().Add(FrameKind::kReaped, index, slot.attempt, reaped);
      slot.busy = false;
    }
  }

  /// Kills what is in the groups that a dead shim had made, and removes those that are empty.
  void KillGroupsOf(uint32_t index, uint64_t attempt) {
    std::vector<std::string> groups;
    if (!common_.base.empty()) {
      groups = GroupsBelow(common_.base, fmt::format("{}.", index));
    }
    std::string name = common_.LimitName(attempt);
    for (const std::string& place :
         {v2_limits_ready_ ? common_.LimitBase() : std::string(), common_.places.v1_memory, common_.places.v1_cpu,
          common_.places.v1_pids}) {
      if (!place.empty()) {
        groups.push_back(place + '/' + name);
      }
    }
    for (const std::string& group : groups) {
      KillCgroup(group);
      RemoveCgroup(group);
    }
  }

  /// Ends everything, removes everything.
  void Finish() {
    int64_t deadline = MonotonicMillis() + 5000;
    bool busy = false;
    for (Slot& slot : slots_) {
      busy = busy || slot.busy;
      CloseShim(slot);
    }
    if (busy && !common_.base.empty()) {
      KillCgroup(common_.base);  // at once; the shims look after the rest
    }
    // Shims see the end of their sockets and clear up behind themselves; all are our children, like every orphan.
    while (ReapChildren(WatchShims()) && !closing_shims_.empty() && MonotonicMillis() < deadline) {
      sigset_t child;
      sigemptyset(&child);
      sigaddset(&child, SIGCHLD);
      timespec wait{0, 10 * 1000 * 1000};
      sigtimedwait(&child, nullptr, &wait);
    }
    EndDescendants({}, MonotonicMillis() + 2000, nullptr);
    for (const std::string& path : registered_) {
      (void)RemoveTree(path).ok();
    }
    if (v2_limits_ready_) {
      UndoV2Limits(common_.places, common_.LimitBase(), {getpid(), getppid()});
    }
    if (!common_.base.empty()) {
      RemoveCgroup(common_.base);
    }
    if (!record_.empty()) {
      unlink(record_.c_str());
    }
  }

  Common common_;
  bool v2_limits_tried_ = false;
  bool v2_limits_ready_ = false;
  uint64_t start_ticks_ = 0;
  std::string record_;
  UniqueFd record_fd_;
  UniqueFd epoll_;
  UniqueFd signals_;
  FrameReader reader_;
  std::deque<UniqueFd> received_fds_;
  std::string out_;
  bool watching_room_ = false;
  std::vector<Slot> slots_;
  bool shim_died_ = false;
  std::unordered_set<pid_t> closing_shims_;  ///< told to end, not yet reaped
  std::vector<std::string> registered_;
};

/// Kills processes that carry the run's id in their environment, and their descendants; returns them.
std::vector<pid_t> KillMarked(const std::string& run_id) {
  std::string marker = "JOB_RUN_ID=" + run_id;
  std::unordered_map<pid_t, ProcessInfo> all;
  for (const ProcessInfo& info : AllProcesses()) {
    all[info.pid] = info;
  }
  std::unordered_set<pid_t> spared;  // never this process or one it descends from
  for (pid_t pid = getpid(); pid > 0 && spared.insert(pid).second;) {
    auto it = all.find(pid);
    pid = it == all.end() ? 0 : it->second.parent;
  }
  std::vector<pid_t> killed;
  for (const auto& [pid, info] : all) {
    if (!info.alive() || spared.count(pid)) {
      continue;
    }
    std::string environment = ReadFile(fmt::format("/proc/{}/environ", pid)).value_or("");
    size_t at = environment.find(marker);
    bool marked = at != std::string::npos && (at == 0 || environment[at - 1] == 0) &&
                  (at + marker.size() == environment.size() || environment[at + marker.size()] == 0);
    if (!marked) {
      continue;
    }
    kill(pid, SIGSTOP);
    for (pid_t below : Descendants(pid)) {
      if (!spared.count(below) && kill(below, SIGKILL) == 0) {
        killed.push_back(below);
      }
    }
    if (kill(pid, SIGKILL) == 0) {
      killed.push_back(pid);
    }
  }
  return killed;
}

void SleepMillis(int64_t ms) {
  timespec wait{ms / 1000, (ms % 1000) * 1000000};
  nanosleep(&wait, nullptr);
}

}  // namespace

Result<GuardianHandle> LaunchGuardian(const GuardianOptions& options) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
    return SystemError("cannot make a socket pair", errno);
  }
  pid_t pid = fork();
  if (pid == 0) {
    Detach(pair[1], "job-guardian");
    Guardian(options).Run();
  }
  int error = errno;
  close(pair[1]);
  GuardianHandle handle;
  handle.socket.Reset(pair[0]);
  if (pid < 0) {
    return SystemError("cannot start the guardian process", error);
  }
  handle.pid = pid;
  fcntl(pair[0], F_SETFL, O_NONBLOCK);
  return handle;
}

bool LiveRun::jobc_alive() const { return jobc_pid > 0 && IsAlive(jobc_pid, jobc_start); }
bool LiveRun::guardian_alive() const { return guardian_pid > 0 && IsAlive(guardian_pid, guardian_start); }

std::vector<LiveRun> ReadLiveRuns(const std::string& state_dir) {
  std::vector<LiveRun> runs;
  std::string dir = state_dir + "/live";
  DIR* stream = opendir(dir.c_str());
  if (!stream) {
    return runs;
  }
  while (dirent* entry = readdir(stream)) {
    if (entry->d_name[0] == '.') {
      continue;
    }
    LiveRun run;
    run.record_path = dir + '/' + entry->d_name;
    std::string text = ReadFile(run.record_path).value_or("");
    std::string_view rest = text;
    bool ours = false;
    while (!rest.empty()) {
      size_t end = rest.find('\n');
      if (end == std::string_view::npos) {
        break;  // a torn last line
      }
      std::string_view line = rest.substr(0, end);
      rest.remove_prefix(end + 1);
      size_t blank = line.find(' ');
      std::string_view key = line.substr(0, blank);
      std::string value(blank == std::string_view::npos ? "" : line.substr(blank + 1));
      auto identity = [&](pid_t* pid, uint64_t* start) {
        const char* stop = value.data() + value.size();
        const char* next = std::from_chars(value.data(), stop, *pid).ptr;
        if (next < stop) {
          std::from_chars(next + 1, stop, *start);
        }
      };
      if (line == "jobc live run 1") {
        ours = true;
      } else if (key == "run") {
        run.run_id = value;
      } else if (key == "host") {
        run.host = value;
      } else if (key == "boot") {
        run.boot_id = value;
      } else if (key == "pidns") {
        std::from_chars(value.data(), value.data() + value.size(), run.pid_namespace);
      } else if (key == "jobc") {
        identity(&run.jobc_pid, &run.jobc_start);
      } else if (key == "guardian") {
        identity(&run.guardian_pid, &run.guardian_start);
      } else if (key == "group") {
        run.groups.push_back(value);
      } else if (key == "prefix") {
        run.group_prefixes.push_back(value);
      } else if (key == "remove") {
        run.remove.push_back(value);
      } else if (key == "keep") {
        if (auto it = std::find(run.remove.begin(), run.remove.end(), value); it != run.remove.end()) {
          run.remove.erase(it);
        }
      }
    }
    if (ours) {
      runs.push_back(std::move(run));
    }
  }
  closedir(stream);
  return runs;
}

StaleRun CleanUpRecord(const LiveRun& run, int64_t patience_ms) {
  StaleRun report{run.run_id};
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  bool same_boot = run.boot_id == BootId() && run.pid_namespace == PidNamespace();
  if (run.host != host) {
    report.problem = fmt::format("belongs to the machine `{}`: run any jobc command there", run.host);
    return report;
  }
  std::vector<std::string> prefixed;
  for (const std::string& prefix : run.group_prefixes) {
    size_t slash = prefix.find_last_of('/');
    if (DIR* stream = slash == std::string::npos ? nullptr : opendir(prefix.substr(0, slash).c_str())) {
      std::string name = prefix.substr(slash + 1);
      while (dirent* entry = readdir(stream)) {
        if (strncmp(entry->d_name, name.c_str(), name.size()) == 0) {
          prefixed.push_back(prefix.substr(0, slash + 1) + entry->d_name);
        }
      }
      closedir(stream);
    }
  }
  if (same_boot) {
    int64_t deadline = MonotonicMillis() + patience_ms;
    std::unordered_set<pid_t> ended;
    for (bool first = true;; first = false) {
      size_t alive = 0;
      for (const std::string& group : run.groups) {
        if (CgroupPopulated(group)) {
          for (pid_t pid : CgroupProcesses(group, true)) {
            ended.insert(pid);
          }
          ++alive;  // also if its processes cannot be seen from here
          KillCgroup(group);
        }
      }
      for (const std::string& group : prefixed) {
        for (pid_t pid : CgroupProcesses(group, true)) {
          if (IsAlive(pid, 0)) {
            ++alive;
            ended.insert(pid);
            kill(pid, SIGKILL);
          }
        }
      }
      std::vector<pid_t> marked = KillMarked(run.run_id);
      ended.insert(marked.begin(), marked.end());
      alive += marked.size();
      report.processes_ended = static_cast<uint32_t>(ended.size());
      if (alive == 0) {
        break;
      }
      if (MonotonicMillis() >= deadline) {
        report.problem = fmt::format("{} processes could not be ended", alive);
        break;
      }
      SleepMillis(first ? 1 : 10);
    }
    for (const std::string& group : prefixed) {
      RemoveCgroup(group);
    }
    for (const std::string& group : run.groups) {
      RemoveCgroup(group);
    }
  }
  for (const std::string& path : run.remove) {
    if (access(path.c_str(), F_OK) != 0) {
      continue;
    }
    if (Result<void> removed = RemoveTree(path); !removed) {
      report.problem = removed.error().message;
    } else {
      ++report.paths_removed;
    }
  }
  if (report.problem.empty()) {
    unlink(run.record_path.c_str());
  }
  return report;
}

std::vector<StaleRun> CleanUpStale(const std::string& state_dir) {
  std::vector<StaleRun> reports;
  for (const LiveRun& run : ReadLiveRuns(state_dir)) {
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    bool same_boot = run.boot_id == BootId() && run.pid_namespace == PidNamespace();
    if (run.host != host || (!same_boot && run.boot_id == BootId())) {
      continue;  // another machine's, or another container's
    }
    if (same_boot && run.jobc_alive()) {
      continue;
    }
    for (int64_t deadline = MonotonicMillis() + 2000;
         same_boot && run.guardian_alive() && MonotonicMillis() < deadline;) {
      SleepMillis(5);
    }
    if (same_boot && run.guardian_alive()) {
      continue;  // still at it
    }
    if (access(run.record_path.c_str(), F_OK) != 0) {
      continue;  // the guardian has done it
    }
    reports.push_back(CleanUpRecord(run, 2000));
  }
  return reports;
}

}  // namespace jobc::process

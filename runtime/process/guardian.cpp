#include "runtime/process/guardian.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
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

/// A decoded kStart frame, with a text of its own into which its pointers go: it stays where it is.
struct StartFrame {
  FrameHead head;
  StartBody body;
  CgroupLimits limits;
  SpawnRequest request;

  StartFrame() = default;
  StartFrame(const StartFrame&) = delete;
  StartFrame& operator=(const StartFrame&) = delete;

  bool Decode(const FrameHead& from, std::string_view payload) {
    head = from;
    text_.assign(payload);
    std::string_view rest = text_;
    if (!TakeBody(&rest, &body)) {
      return false;
    }
    limits = {body.memory_bytes, body.cpu_milli, body.pids};
    auto take = [&] { return const_cast<char*>(TakeText(&rest).data()); };
    request = SpawnRequest();
    request.directory = take();
    for (auto [list, count] :
         {std::pair(&argv_, body.argc), std::pair(&envp_, body.envc), std::pair(&unless_, body.unless)}) {
      list->clear();
      list->reserve(count + 1);
      for (uint32_t i = 0; i < count; ++i) {
        list->push_back(take());
      }
      list->push_back(nullptr);
    }
    request.argv = argv_.data();
    request.envp = envp_.data();
    return true;
  }

  /// True if a path is there that is not to be.
  bool Blocked() const {
    for (const char* path : unless_) {
      if (path != nullptr && (access(path, F_OK) == 0 || errno != ENOENT)) {
        return true;
      }
    }
    return false;
  }

 private:
  std::string text_;
  std::vector<char*> argv_;
  std::vector<char*> envp_;
  std::vector<char*> unless_;
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
  /// The names of the groups of a slot's attempts with limits begin so; the attempt follows.
  std::string LimitPrefix(uint32_t slot) const { return fmt::format("{}-{}.", group_name, slot); }
};

/// What a shim keeps open; everything else belongs to the guardian.
struct ShimFds {
  UniqueFd socket;   ///< to jobc
  UniqueFd control;  ///< the read end of a pipe whose write end the guardian has: its end is the end of the guardian
  struct Pair {
    UniqueFd out;
    UniqueFd err;
  };
  std::vector<Pair> pairs;  ///< the pipes of attempts; consecutive attempts can have different ones

  /// Closes all other descriptors but 0 to 2. Needs no free one.
  void CloseOthers() const {
    std::vector<int> kept = {2, socket.get(), control.get()};
    for (const Pair& pair : pairs) {
      kept.push_back(pair.out.get());
      kept.push_back(pair.err.get());
    }
    std::sort(kept.begin(), kept.end());
    for (size_t i = 0; i < kept.size(); ++i) {
      unsigned first = static_cast<unsigned>(kept[i]) + 1;
      unsigned last = i + 1 < kept.size() ? static_cast<unsigned>(kept[i + 1]) - 1 : ~0U;
      if (first <= last && syscall(SYS_close_range, first, last, 0U) != 0) {
        for (unsigned fd = first; fd <= std::min(last, 65535U); ++fd) {
          close(static_cast<int>(fd));
        }
      }
    }
  }
};

/// The supervisor of one slot: starts its attempts one after the other and ends their trees. It talks with jobc itself;
/// the guardian only makes it and looks after what it leaves behind if it is killed. Runs in a process of its own and
/// never returns.
class Shim {
 public:
  Shim(const Common& common, uint32_t slot, ShimFds fds)
      : common_(common), slot_(slot), fds_(std::move(fds)), base_(common.base) {}

  [[noreturn]] void Run() {
    // SIGCHLD is let in only while this process waits: it ends the wait.
    struct sigaction action {};
    action.sa_handler = [](int) {};
    sigaction(SIGCHLD, &action, nullptr);
    sigset_t waiting;
    sigfillset(&waiting);
    sigdelset(&waiting, SIGCHLD);
    for (;;) {
      if (urgent_) {
        Send();
      }
      // Who reads of a start can wait a moment: often the end of the program comes along. So can who reads of an end while
      // more waits here: one message of several ends costs what one of one does.
      const int64_t left_us = urgent_ || out_.empty() ? 0 : send_at_us_ - MonotonicMicros();
      if (left_us < 0) {
        urgent_ = true;
        continue;
      }
      timespec moment{left_us / 1000000, left_us % 1000000 * 1000};
      pollfd polled[2] = {{fds_.socket.get(), static_cast<short>(POLLIN | (urgent_ ? POLLOUT : 0)), 0},
                          {fds_.control.get(), POLLIN, 0}};
      int n = ppoll(polled, 2, !out_.empty() && !urgent_ ? &moment : nullptr, &waiting);
      if (n < 0) {
        Reap();
        continue;
      }
      if (n == 0) {
        urgent_ = true;
        continue;
      }
      if (polled[1].revents != 0) {
        Leave();
      }
      if ((polled[0].revents & ~POLLOUT) != 0) {
        Receive();
      }
    }
  }

 private:
  static constexpr int64_t kStartedDelayUs = 1000;
  static constexpr int64_t kEndedDelayUs = 4000;
  static constexpr size_t kShimReceiveBytes = 16 * 1024;

  /// Our guardian or jobc is gone, or does not need us any more: nothing may stay alive.
  [[noreturn]] void Leave() {
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

  void Receive() {
    ssize_t n = recv(fds_.socket.get(), reader_.Space(kShimReceiveBytes), kShimReceiveBytes, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
      Leave();
    }
    reader_.Received(n > 0 ? static_cast<size_t>(n) : 0);
    FrameHead head;
    std::string_view payload;
    while (reader_.Next(&head, &payload)) {
      if (head.kind == FrameKind::kStart) {
        StartBody body;
        std::string_view front = payload;
        bool after = TakeBody(&front, &body) && (body.flags & kAfter) != 0;
        if (after && body.after != (waiting_.empty() ? leader_ == 0 ? 0 : head_.attempt : waiting_.back()->head.attempt)) {
          // What it was to follow has ended by now, or was taken back: nothing starts unasked.
          Refuse(head);
          continue;
        }
        std::unique_ptr<StartFrame> start = spare_.empty() ? std::make_unique<StartFrame>() : std::move(spare_.back());
        if (!spare_.empty()) {
          spare_.pop_back();
        }
        if (start->Decode(head, payload)) {
          waiting_.push_back(std::move(start));
          if (!after) {
            StartFirst();
          }
        }
      } else if (head.kind == FrameKind::kRevoke) {
        const auto is_it = [&](const std::unique_ptr<StartFrame>& one) { return one->head.attempt == head.attempt; };
        if (auto found = std::find_if(waiting_.begin(), waiting_.end(), is_it); found != waiting_.end()) {
          for (size_t keep = static_cast<size_t>(found - waiting_.begin()); waiting_.size() > keep; waiting_.pop_back()) {
            Refuse(waiting_.back()->head);
            spare_.push_back(std::move(waiting_.back()));
          }
        }
      } else if (leader_ != 0 && head.attempt == head_.attempt) {
        SignalBody body;
        if (head.kind == FrameKind::kSignal && TakeBody(&payload, &body)) {
          disturbed_ = true;
          SignalAll(body.signal);
        } else if (head.kind == FrameKind::kKillTree) {
          disturbed_ = true;
          kill(leader_, SIGKILL);
          End(true);
        }
      }
    }
  }

  void Refuse(const FrameHead& start) {
    FrameWriter(&out_).AddText(FrameKind::kRevoked, slot_, start.attempt, {}, start.token);
    urgent_ = true;
  }

  /// Starts the first of those that wait.
  void StartFirst() {
    std::unique_ptr<StartFrame> start = std::move(waiting_.front());
    waiting_.pop_front();
    Start(*start);
    spare_.push_back(std::move(start));
  }

  /// None of those that wait will start, as what jobc is told of the one before says.
  void DropWaiting() {
    for (; !waiting_.empty(); waiting_.pop_back()) {
      spare_.push_back(std::move(waiting_.back()));
    }
  }

  void Start(StartFrame& start) {
    secrets_.clear();
    for (char* const* entry = start.request.envp; *entry != nullptr; ++entry) {
      constexpr std::string_view kName = "JOB_SECRETS=";  // only jobc sets JOB_ variables
      if (std::string_view(*entry).starts_with(kName)) {
        secrets_ = *entry + kName.size();
      }
    }
    ShimFds::Pair& pair = fds_.pairs[std::min<size_t>(start.body.pair, fds_.pairs.size() - 1)];
    // A program may have set O_NONBLOCK or the like on the pipe's end, which the next one would inherit.
    fcntl(pair.out.get(), F_SETFL, O_WRONLY);
    fcntl(pair.err.get(), F_SETFL, O_WRONLY);
    MakeGroup();
    std::vector<int> join;
    UniqueFd limit_fd;
    if (start.limits.any() && common_.options.use_limits) {
      limits_ = LimitGroups::Make(common_.places, start.body.flags & kV2LimitsReady ? common_.LimitBase() : std::string(),
                                  common_.LimitPrefix(slot_) + std::to_string(start.head.attempt), start.limits);
      for (const UniqueFd& fd : limits_.join()) {
        join.push_back(fd.get());
      }
      if (!limits_.v2_path().empty()) {
        limit_fd.Reset(open(limits_.v2_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        limit_events_fd_.Reset(open((limits_.v2_path() + "/cgroup.events").c_str(), O_RDONLY | O_CLOEXEC));
      }
    }
    start.request.stdout_fd = pair.out.get();
    start.request.stderr_fd = pair.err.get();
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
      AddFailure(FrameWriter(&out_), start.head, outcome.failure);
      urgent_ = true;
      DropWaiting();
      EndLimits();
      return;
    }
    leader_ = outcome.pid;
    head_ = start.head;
    disturbed_ = false;
    FrameWriter(&out_).Add(FrameKind::kStarted, slot_, head_.attempt, MakeStarted(leader_, limits_.enforced()));
    // In this order, so that what is added up of it is never ahead of the wall clock that the next one starts by.
    const int64_t wall_us = WallMicros();
    const int64_t now_us = MonotonicMicros();
    wall_ahead_us_ = wall_us - now_us;
    if (!ends_unsent_) {
      send_at_us_ = now_us + kStartedDelayUs;
    }
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
        // A duration is what lies between the two: a wall clock that was set meanwhile must not change it.
        exited.wall_ms = (wall_ahead_us_ + MonotonicMicros()) / 1000;
        if (limits_.enforced().any()) {
          exited.oom = limits_.OomKills() > 0;
          exited.peak_bytes = limits_.PeakMemory();
        }
        succeeded_ = WIFEXITED(status) && WEXITSTATUS(status) == 0 && !exited.oom;
        FrameWriter(&out_).Add(FrameKind::kExited, slot_, head_.attempt, exited);  // End() follows
      }
    };
  }

  void Reap() {
    // Whatever is left of the tree is a child by now, as this process is a subreaper: no child, no tree.
    bool others = ReapChildren(Watch());
    if (leader_ended_) {
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
    const bool go_on = !waiting_.empty() && succeeded_ && !disturbed_ && body.left == 0 && !waiting_.front()->Blocked();
    if (!go_on) {
      DropWaiting();
    }
    body.next = go_on ? 1 : 0;
    FrameWriter(&out_).Add(FrameKind::kReaped, slot_, head_.attempt, body);
    if (waiting_.size() < 2) {
      urgent_ = true;  // nothing waits for the next one, which jobc should know
    } else if (!ends_unsent_) {
      ends_unsent_ = true;
      send_at_us_ = MonotonicMicros() + kEndedDelayUs;
    }
    if (limits_.enforced().any() || limit_events_fd_) {
      EndLimits();
    }
    if (spent_) {
      DropGroup();
    }
    leader_ = 0;
    leader_ended_ = false;
    succeeded_ = false;
    if (go_on) {
      StartFirst();
    }
  }

  static void WaitForChild(int ms) {
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    timespec wait{0, ms * 1000000L};
    sigtimedwait(&child, nullptr, &wait);
  }

  /// What does not fit now is sent when there is room.
  void Send() {
    if (!Flush(fds_.socket.get(), &out_)) {
      out_.clear();  // jobc is gone, which the next look at the socket tells
    }
    urgent_ = !out_.empty();
    ends_unsent_ = false;
  }

  const Common& common_;
  uint32_t slot_;
  ShimFds fds_;
  std::string base_;
  FrameReader reader_;
  std::string out_;
  bool urgent_ = false;       ///< what is in `out_` is to be sent at once, else at `send_at_us_`
  bool ends_unsent_ = false;  ///< it holds an end that can wait
  int64_t send_at_us_ = 0;    ///< monotonic
  std::deque<std::unique_ptr<StartFrame>> waiting_;  ///< to start one after the other after what runs
  std::vector<std::unique_ptr<StartFrame>> spare_;   ///< to be used again
  FrameHead head_;           ///< of what runs
  std::string secrets_;      ///< directory of secret files of the attempt
  pid_t leader_ = 0;
  int64_t wall_ahead_us_ = 0;  ///< the wall clock less the monotonic one when it started
  bool leader_ended_ = false;
  bool succeeded_ = false;   ///< the leader ended by itself with exit code 0
  bool disturbed_ = false;   ///< jobc has sent it a signal
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
    if (!signals_ || !epoll_) {
      _exit(1);  // jobc sees the end of the socket
    }
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
        if (events[i].data.u64 == kSocketTag) {
          socket_ready = (events[i].events & ~EPOLLOUT) != 0;
        } else {
          DrainSignals(signals_.get());
          ReapChildren(WatchShims());
        }
      }
      if (socket_ready) {
        open = Receive();  // before the dead are looked after: it may say which of them were let go
      }
      if (open) {
        SettleShims();
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

  struct Slot {
    uint64_t generation = 0;
    pid_t shim = 0;    ///< 0: it is dead
    UniqueFd control;  ///< closed: there is no shim, and jobc knows
  };

  /// What came with one message: the descriptors of one kSlot.
  struct Received {
    std::vector<UniqueFd> fds;
    bool cut = false;  ///< some were lost, as this process may open no more
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
    alignas(cmsghdr) char control[CMSG_SPACE((1 + 2 * kMostPairs) * sizeof(int))];
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    ssize_t n = recvmsg(kSocket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
      return false;
    }
    // The kernel never joins the descriptors of two messages, so each set belongs to one kSlot, in their order; and a set
    // that was cut leaves a mark behind, so that what it was for fails and nothing else.
    Received received;
    received.cut = n > 0 && (message.msg_flags & MSG_CTRUNC) != 0;
    for (cmsghdr* c = n > 0 ? CMSG_FIRSTHDR(&message) : nullptr; c; c = CMSG_NXTHDR(&message, c)) {
      if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; ++i) {
          int fd = -1;
          memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
          received.fds.emplace_back(fd);
        }
      }
    }
    if (received.cut) {
      received.fds.clear();
    }
    if (received.cut || !received.fds.empty()) {
      received_.push_back(std::move(received));
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
        MakeSlot(slot, head, payload);
        break;
      case FrameKind::kDropSlot:
        if (slot.control && slot.generation == head.attempt && slot.shim) {
          kill(slot.shim, SIGKILL);  // SettleShims() does the rest
        }
        break;
      case FrameKind::kLimits:
        Answer().Add(FrameKind::kLimitsReady, 0, 0, LimitsBody{V2Limits()});
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

  void MakeSlot(Slot& slot, const FrameHead& head, std::string_view payload) {
    CloseShim(slot);
    slot.generation = head.attempt;
    Received received;
    if (!received_.empty()) {
      received = std::move(received_.front());
      received_.pop_front();
    }
    SlotBody body;
    int error = 0;
    if (received.cut) {
      error = EMFILE;
    } else if (!TakeBody(&payload, &body) || body.pairs == 0 || received.fds.size() != 1 + 2 * size_t{body.pairs}) {
      error = EPROTO;
    } else {
      error = StartShim(slot, head.slot, received.fds);
    }
    if (error != 0) {
      Answer().Add(FrameKind::kSlotLost, head.slot, head.attempt, LostBody{error, 0});
    }
  }

  /// 0, or an errno value. The shim takes over `fds`, which are closed here by who has them.
  int StartShim(Slot& slot, uint32_t index, std::vector<UniqueFd>& fds) {
    int control[2];
    if (pipe2(control, O_CLOEXEC) != 0) {
      return errno;
    }
    UniqueFd read_end(control[0]);
    UniqueFd write_end(control[1]);
    // Not fork(): libuv's atfork handler would close descriptors that jobc's loop had, by numbers that are ours now.
    pid_t pid = static_cast<pid_t>(syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr));
    if (pid == 0) {
      BecomeShim(index, std::move(read_end), fds);
    }
    if (pid < 0) {
      return errno;
    }
    slot.shim = pid;
    slot.control = std::move(write_end);
    return 0;
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

  [[noreturn]] void BecomeShim(uint32_t slot, UniqueFd control, std::vector<UniqueFd>& received) {
    setsid();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_NAME, "job-shim");
    ShimFds fds;
    fds.socket = std::move(received[0]);
    fds.control = std::move(control);
    for (size_t i = 1; i + 1 < received.size(); i += 2) {
      fds.pairs.push_back({std::move(received[i]), std::move(received[i + 1])});
    }
    fds.CloseOthers();  // a copy of the guardian's socket would hide jobc's death
    Shim(common_, slot, std::move(fds)).Run();
  }

  void CloseShim(Slot& slot) {
    if (slot.control) {
      slot.control.Reset();
      if (slot.shim) {
        closing_shims_.insert(slot.shim);
      }
      slot.shim = 0;
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
      if (!slot.control || (slot.shim && IsAlive(slot.shim, 0))) {
        continue;
      }
      slot.shim = 0;
      slot.control.Reset();
      KillGroupsOf(index);
      LostBody lost;
      lost.left = static_cast<uint32_t>(EndDescendants(LiveShims(), MonotonicMillis() + 2000, WatchShims()));
      KillGroupsOf(index);
      Answer().Add(FrameKind::kSlotLost, index, slot.generation, lost);
    }
  }

  /// Kills what is in the groups that a dead shim had made, and removes those that are empty.
  void KillGroupsOf(uint32_t index) {
    std::vector<std::string> groups;
    if (!common_.base.empty()) {
      groups = GroupsBelow(common_.base, fmt::format("{}.", index));
    }
    for (const std::string& place :
         {v2_limits_ready_ ? common_.LimitBase() : std::string(), common_.places.v1_memory, common_.places.v1_cpu,
          common_.places.v1_pids}) {
      if (!place.empty()) {
        std::vector<std::string> more = GroupsBelow(place, common_.LimitPrefix(index));
        groups.insert(groups.end(), more.begin(), more.end());
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
      busy = busy || slot.control;
      CloseShim(slot);
    }
    if (busy && !common_.base.empty() && CgroupPopulated(common_.base)) {
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
  std::deque<Received> received_;
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

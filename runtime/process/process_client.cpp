#include "runtime/process/process_client.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include <fmt/format.h>

#include "runtime/process/process_tree.h"
#include "runtime/process/protocol.h"

namespace jobc::process {
namespace {

constexpr size_t kPipeReadBytes = 256 * 1024;
constexpr int kLargePipe = 512 * 1024;
constexpr size_t kReceiveBytes = 16 * 1024;
constexpr size_t kShimReceiveBytes = 4096;
/// Of descriptors: a slot's socket and first pair of pipes; what is kept for everything else that is opened while
/// attempts run (the loop's own, the journal's, staged files, the result of an attempt, watchers, directories that are
/// removed); the least of both with which a run can begin; what a guardian has open beside one for each slot, a new
/// slot's among them.
constexpr uint64_t kFilesASlot = 3;
constexpr uint64_t kReservedFiles = 18;
constexpr uint64_t kLeastFiles = 15;
constexpr uint64_t kGuardianFiles = 20;
/// Pairs beside the first, which StartAfter() needs, are made where descriptors abound: a second one for so many slots,
/// more for fewer.
constexpr uint64_t kFilesForSecondPairs = 1024;
constexpr uint64_t kSecondPairs = 128;
constexpr uint64_t kAllPairs = 16;
constexpr uint64_t kFilesOfMorePairs = 2 * (kSecondPairs + (kMostPairs - 2) * kAllPairs);

template <typename Handle>
void CloseHandle(Handle* handle) {
  uv_close(reinterpret_cast<uv_handle_t*>(handle),
           [](uv_handle_t* closed) { delete reinterpret_cast<Handle*>(closed); });
}

}  // namespace

/// A place for one attempt at a time, with its shim and the pipes that its attempts write to.
struct ProcessClient::Slot {
  /// Two pipes: stdout and stderr of one attempt at a time.
  struct Pair {
    UniqueFd pipes[2];
    uv_poll_t* polls[2] = {nullptr, nullptr};
    bool large[2] = {false, false};
    uint64_t attempt = 0;  ///< who writes there; 0: nobody
    uint64_t last_output = 0;
  };

  ProcessClient* client = nullptr;
  uint32_t index = 0;
  uint64_t generation = 0;  ///< counts its shims
  UniqueFd socket;          ///< to the shim; closed: there is none
  uv_poll_t* poll = nullptr;
  bool deaf = false;        ///< the shim has closed its end
  bool waiting_for_room = false;
  bool unsent = false;      ///< in ProcessClient::unsent_
  FrameReader reader;
  std::string out;
  std::string held;         ///< a start that waits for the guardian's answer about limits, and what came after it
  Pair pairs[kMostPairs];
  int pair_count = 1;
  int pair = 0;             ///< of what runs; those that wait have the following ones

  uint64_t attempt = 0;  ///< what runs; 0: nothing
  bool started = false;
  bool exited = false;
  std::string program;   ///< for messages
  struct Next {
    uint64_t attempt = 0;
    uint32_t token = 0;
    std::string program;
  };
  std::vector<Next> next;  ///< what waits in the shim to follow it, one after the other
  bool replace = false;  ///< its last tree was killed, something may have kept a pipe's end; or its shim is lost

  /// The pipes of what waits at a place of `next`.
  Pair& PairOfNext(size_t place) { return pairs[(static_cast<size_t>(pair) + 1 + place) % static_cast<size_t>(pair_count)]; }
  /// Where it waits; next.size(): it does not.
  size_t PlaceOf(uint64_t waiting) const {
    return static_cast<size_t>(std::find_if(next.begin(), next.end(), [&](const Next& one) { return one.attempt == waiting; }) - next.begin());
  }
};

ProcessClient::ProcessClient(uv_loop_t* loop, GuardianHandle guardian, LogWriter* log, ProcessEvents* events)
    : loop_(loop), guardian_(std::move(guardian)), log_(log), events_(events), received_(std::make_unique<FrameReader>()),
      pipe_buffer_(new char[kPipeReadBytes]) {}

namespace {

/// The soft limit of open files becomes the hard one; what it is then. Programs get theirs back: the guardian was born
/// with it.
uint64_t RaiseFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return 1024;
  }
  if (limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
      getrlimit(RLIMIT_NOFILE, &limit);
    }
  }
  return limit.rlim_cur;
}

uint64_t OpenFiles() {
  uint64_t count = 0;
  if (DIR* dir = opendir("/proc/self/fd")) {
    while (dirent* entry = readdir(dir)) {
      count += entry->d_name[0] != '.' ? 1 : 0;
    }
    closedir(dir);
    return count - 1;
  }
  return 32;
}

}  // namespace

ProcessClient::Files ProcessClient::CountFiles() {
  Files files;
  files.limit = RaiseFileLimit();
  files.open = OpenFiles();
  files.suffice = files.limit >= files.open + kLeastFiles;
  const bool seconds = files.limit >= kFilesForSecondPairs;
  const uint64_t used = files.open + kReservedFiles + (seconds ? kFilesOfMorePairs : 0);
  const uint64_t here = files.limit > used ? (files.limit - used) / kFilesASlot : 0;
  const uint64_t there = files.limit > kGuardianFiles ? files.limit - kGuardianFiles : 0;  // one a slot
  files.attempts = static_cast<uint32_t>(std::clamp<uint64_t>(std::min(here, there), 1, UINT32_MAX));
  return files;
}

Result<std::unique_ptr<ProcessClient>> ProcessClient::Create(uv_loop_t* loop, GuardianHandle guardian,
                                                             const Options& options, LogWriter* log,
                                                             ProcessEvents* events) {
  std::unique_ptr<ProcessClient> client(new ProcessClient(loop, std::move(guardian), log, events));
  client->second_pairs_ = RaiseFileLimit() >= kFilesForSecondPairs;
  client->options_ = options;
  client->socket_poll_ = new uv_poll_t;
  if (int error = uv_poll_init(loop, client->socket_poll_, client->guardian_.socket.get())) {
    delete std::exchange(client->socket_poll_, nullptr);
    return Error{fmt::format("cannot watch the guardian: {}", uv_strerror(error)), -error};
  }
  client->socket_poll_->data = client.get();
  uv_poll_start(client->socket_poll_, UV_READABLE, OnSocketEvent);
  client->prepare_ = new uv_prepare_t;
  uv_prepare_init(loop, client->prepare_);
  client->prepare_->data = client.get();
  uv_prepare_start(client->prepare_, OnPrepare);
  uv_unref(reinterpret_cast<uv_handle_t*>(client->prepare_));
  client->check_ = new uv_check_t;
  uv_check_init(loop, client->check_);
  client->check_->data = client.get();
  uv_check_start(client->check_, OnCheck);
  uv_unref(reinterpret_cast<uv_handle_t*>(client->check_));
  client->idle_ = new uv_idle_t;
  uv_idle_init(loop, client->idle_);
  FrameWriter(client->Out()).AddText(FrameKind::kBegin, 0, 0, options.run_id + '\0' + options.state_dir + '\0');
  client->SendAll();
  client->UpdateReference();
  return client;
}

ProcessClient::~ProcessClient() { Stop(); }

void ProcessClient::UpdateReference() {
  if (!socket_poll_) {
    return;
  }
  auto* handle = reinterpret_cast<uv_handle_t*>(socket_poll_);
  if (running_.empty()) {
    uv_unref(handle);
  } else {
    uv_ref(handle);
  }
}

int ProcessClient::OpenSlot(Slot& slot) {
  Outgoing announce;
  slot.pair_count = !second_pairs_ || slot.index >= kSecondPairs ? 1 : slot.index < kAllPairs ? static_cast<int>(kMostPairs) : 2;
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return errno;
  }
  slot.socket.Reset(ends[0]);
  announce.fds.emplace_back(ends[1]);
  auto watch = [&](int fd, uv_poll_t*& poll, uv_poll_cb callback) {
    fcntl(fd, F_SETFL, O_NONBLOCK);
    poll = new uv_poll_t;
    if (int error = uv_poll_init(loop_, poll, fd)) {
      delete std::exchange(poll, nullptr);
      return -error;
    }
    poll->data = &slot;
    uv_poll_start(poll, UV_READABLE, callback);
    uv_unref(reinterpret_cast<uv_handle_t*>(poll));
    return 0;
  };
  if (int error = watch(slot.socket.get(), slot.poll, OnSlotEvent)) {
    return error;
  }
  for (int pair = 0; pair < slot.pair_count; ++pair) {
    for (int stream = 0; stream < 2; ++stream) {
      if (pipe2(ends, O_CLOEXEC) != 0) {
        return errno;
      }
      slot.pairs[pair].pipes[stream].Reset(ends[0]);
      announce.fds.emplace_back(ends[1]);
      slot.pairs[pair].large[stream] = false;
      if (int error = watch(ends[0], slot.pairs[pair].polls[stream], OnPipeEvent)) {
        return error;
      }
    }
  }
  slot.replace = false;
  slot.deaf = false;
  slot.pair = 0;
  SlotBody body{static_cast<uint32_t>(slot.pair_count)};
  FrameWriter(&announce.bytes).Add(FrameKind::kSlot, slot.index, ++slot.generation, body);
  outgoing_.push_back(std::move(announce));
  SendAll();  // now: until then the guardian's ends of all these are ours too
  return 0;
}

void ProcessClient::CloseSlot(Slot& slot) {
  auto close = [](uv_poll_t*& poll) {
    if (poll) {
      uv_poll_stop(poll);
      CloseHandle(std::exchange(poll, nullptr));
    }
  };
  close(slot.poll);
  slot.socket.Reset();
  slot.waiting_for_room = false;
  slot.reader = FrameReader();
  slot.out.clear();
  slot.held.clear();
  for (Slot::Pair& pair : slot.pairs) {
    for (int stream = 0; stream < 2; ++stream) {
      close(pair.polls[stream]);
      pair.pipes[stream].Reset();
    }
    pair.attempt = 0;
  }
}

std::string* ProcessClient::Out() {
  if (outgoing_.empty() || !outgoing_.back().fds.empty()) {
    outgoing_.emplace_back();
  }
  return &outgoing_.back().bytes;
}

std::string* ProcessClient::OutTo(Slot& slot) {
  if (!slot.held.empty()) {
    return &slot.held;
  }
  if (!slot.unsent) {
    slot.unsent = true;
    unsent_.push_back(slot.index);
  }
  return &slot.out;
}

void ProcessClient::Start(uint64_t attempt, const ProcessSpec& spec) {
  SpawnFailure failure;
  if (lost_ || stopped_) {
    FailLater(attempt, {SpawnStage::kSupervisor, EPIPE, spec.argv.empty() ? "" : spec.argv[0]});
    return;
  }
  if (spec.argv.empty() || spec.argv[0].empty()) {
    FailLater(attempt, {SpawnStage::kNotFound, ENOENT});
    return;
  }
  if (!CheckSizes(spec.argv, spec.env, &failure)) {
    FailLater(attempt, std::move(failure));
    return;
  }
  if (free_slots_.empty()) {
    auto slot = std::make_unique<Slot>();
    slot->client = this;
    slot->index = static_cast<uint32_t>(slots_.size());
    free_slots_.push_back(slot->index);
    slots_.push_back(std::move(slot));
  }
  uint32_t index = free_slots_.back();
  Slot& slot = *slots_[index];
  if (slot.replace) {
    CloseSlot(slot);
  }
  if (!slot.socket) {
    if (int error = OpenSlot(slot)) {
      CloseSlot(slot);
      FailLater(attempt, {SpawnStage::kSupervisor, error, spec.argv[0]});
      return;
    }
  }
  free_slots_.pop_back();
  slot.attempt = attempt;
  slot.started = false;
  slot.exited = false;
  slot.program = spec.argv[0];
  slot.pairs[slot.pair].attempt = attempt;
  slot.pairs[slot.pair].last_output = uv_now(loop_);
  running_[attempt] = index;
  WriteStart(slot, attempt, spec, {}, {});
  UpdateReference();
}

bool ProcessClient::StartAfter(uint64_t attempt, const ProcessSpec& spec, uint64_t before,
                               const std::vector<std::string>& unless) {
  auto it = running_.find(before);
  if (it == running_.end() || lost_ || stopped_) {
    return false;
  }
  Slot& slot = *slots_[it->second];
  SpawnFailure failure;
  const bool limits = spec.limits.memory_bytes || spec.limits.cpu_milli || spec.limits.pids;
  const uint64_t last = slot.next.empty() ? slot.attempt : slot.next.back().attempt;
  if (last != before || static_cast<int>(slot.next.size()) + 1 >= slot.pair_count || slot.exited || slot.replace || limits ||
      spec.argv.empty() || spec.argv[0].empty() || !CheckSizes(spec.argv, spec.env, &failure)) {
    return false;
  }
  Slot::Pair& pair = slot.PairOfNext(slot.next.size());
  pair.attempt = attempt;
  pair.last_output = uv_now(loop_);
  slot.next.push_back({attempt, ++last_token_, spec.argv[0]});
  running_[attempt] = slot.index;
  WriteStart(slot, attempt, spec, {before, last_token_, static_cast<int>(&pair - slot.pairs)}, unless);
  return true;
}

void ProcessClient::Revoke(uint64_t attempt) {
  auto it = running_.find(attempt);
  if (it != running_.end() && !lost_ && slots_[it->second]->attempt != attempt) {
    FrameWriter(OutTo(*slots_[it->second])).AddText(FrameKind::kRevoke, it->second, attempt);
  }
}

void ProcessClient::WriteStart(Slot& slot, uint64_t attempt, const ProcessSpec& spec, const After& after,
                               const std::vector<std::string>& unless) {
  uint32_t flags = after.attempt != 0 ? kAfter : 0;
  size_t size = spec.directory.size() + 1;
  for (const std::string& argument : spec.argv) {
    size += argument.size() + 1;
  }
  for (const std::string& entry : spec.env) {
    size += entry.size() + 1;
  }
  std::string tail;
  tail.reserve(size);
  tail.append(spec.directory.c_str(), spec.directory.size() + 1);
  for (const std::vector<std::string>* list : std::initializer_list<const std::vector<std::string>*>{&spec.argv, &spec.env, &unless}) {
    for (const std::string& text : *list) {
      tail.append(text.c_str(), strlen(text.c_str()) + 1);  // values with a NUL were refused when they were rendered
    }
  }
  const ProcessLimits& limits = spec.limits;
  std::string* out = OutTo(slot);
  if (limits.memory_bytes || limits.cpu_milli || limits.pids) {
    // The guardian makes the machine ready for limits when first asked, and says what came of it.
    if (!limits_asked_) {
      limits_asked_ = true;
      FrameWriter(Out()).AddText(FrameKind::kLimits, 0, 0);
    }
    if (!v2_limits_) {
      waiting_for_limits_.push_back(slot.index);
      out = &slot.held;
    } else if (*v2_limits_) {
      flags |= kV2LimitsReady;
    }
  }
  const int pair = after.attempt != 0 ? after.pair : slot.pair;
  StartBody body{limits.memory_bytes,      limits.cpu_milli, limits.pids,
                 flags,                    static_cast<uint32_t>(pair),
                 static_cast<uint32_t>(spec.argv.size()), static_cast<uint32_t>(spec.env.size()),
                 static_cast<uint32_t>(unless.size()), after.attempt};
  FrameWriter(out).Add(FrameKind::kStart, slot.index, attempt, body, tail, after.token);
}

void ProcessClient::Signal(uint64_t attempt, int signal) {
  if (auto it = running_.find(attempt); it != running_.end() && !lost_ && slots_[it->second]->attempt == attempt) {
    Slot& slot = *slots_[it->second];
    slot.replace = true;
    FrameWriter(OutTo(slot)).Add(FrameKind::kSignal, slot.index, attempt, SignalBody{signal});
  }
}

void ProcessClient::KillTree(uint64_t attempt) {
  if (auto it = running_.find(attempt); it != running_.end() && !lost_ && slots_[it->second]->attempt == attempt) {
    Slot& slot = *slots_[it->second];
    slot.replace = true;
    FrameWriter(OutTo(slot)).AddText(FrameKind::kKillTree, slot.index, attempt);
  }
}

void ProcessClient::RemoveOnDeath(const std::string& path) {
  FrameWriter(Out()).AddText(FrameKind::kRegister, 0, 0, path);
  SendAll();  // before anything is put there
}

void ProcessClient::KeepOnDeath(const std::string& path) { FrameWriter(Out()).AddText(FrameKind::kUnregister, 0, 0, path); }

uint64_t ProcessClient::LastOutput(uint64_t attempt) const {
  auto it = running_.find(attempt);
  if (it == running_.end()) {
    return uv_now(loop_);
  }
  Slot& slot = *slots_[it->second];
  return slot.attempt == attempt ? slot.pairs[slot.pair].last_output : slot.PairOfNext(slot.PlaceOf(attempt)).last_output;
}

void ProcessClient::SendAll() {
  while (!outgoing_.empty() && !lost_) {
    Outgoing& first = outgoing_.front();
    if (first.bytes.empty()) {
      outgoing_.pop_front();
      continue;
    }
    iovec part{first.bytes.data(), first.bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE((1 + 2 * kMostPairs) * sizeof(int))] = {};
    if (!first.fds.empty()) {
      int fds[1 + 2 * kMostPairs];
      for (size_t i = 0; i < first.fds.size(); ++i) {
        fds[i] = first.fds[i].get();
      }
      const size_t bytes = first.fds.size() * sizeof(int);
      message.msg_control = control;
      message.msg_controllen = CMSG_SPACE(bytes);
      cmsghdr* c = CMSG_FIRSTHDR(&message);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(bytes);
      memcpy(CMSG_DATA(c), fds, bytes);
    }
    ssize_t n = sendmsg(guardian_.socket.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      break;  // full: goes on when there is room; or the guardian is dead, which reading finds out
    }
    first.fds.clear();
    first.bytes.erase(0, static_cast<size_t>(n));
  }
  bool wanted = !outgoing_.empty() && !lost_;
  if (wanted != waiting_for_room_ && socket_poll_) {
    waiting_for_room_ = wanted;
    uv_poll_start(socket_poll_, UV_READABLE | (wanted ? UV_WRITABLE : 0), OnSocketEvent);
  }
}

void ProcessClient::OnPrepare(uv_prepare_t* handle) { static_cast<ProcessClient*>(handle->data)->Flush(); }

void ProcessClient::Flush() {
  SendAll();
  for (size_t i = 0; i < unsent_.size(); ++i) {
    Slot& slot = *slots_[unsent_[i]];
    slot.unsent = false;
    SendTo(slot);
  }
  unsent_.clear();
  log_->Flush();
}

void ProcessClient::SendTo(Slot& slot) {
  if (slot.deaf || !slot.socket) {
    slot.out.clear();
    return;
  }
  size_t sent = 0;
  while (sent < slot.out.size()) {
    ssize_t n = send(slot.socket.get(), slot.out.data() + sent, slot.out.size() - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      break;  // full: goes on when there is room; or the shim is dead, which reading finds out
    }
    sent += static_cast<size_t>(n);
  }
  slot.out.erase(0, sent);
  bool wanted = !slot.out.empty();
  if (wanted != slot.waiting_for_room) {
    slot.waiting_for_room = wanted;
    uv_poll_start(slot.poll, UV_READABLE | (wanted ? UV_WRITABLE : 0), OnSlotEvent);
  }
}

void ProcessClient::FailLater(uint64_t attempt, SpawnFailure failure) {
  failed_.emplace_back(attempt, std::move(failure));
  if (idle_) {
    uv_idle_start(idle_, [](uv_idle_t*) {});
  }
}

void ProcessClient::OnCheck(uv_check_t* handle) {
  auto* client = static_cast<ProcessClient*>(handle->data);
  if (client->failed_.empty()) {
    return;
  }
  // Told here and not from Start(), so that callers are never called back from their own call.
  std::vector<std::pair<uint64_t, SpawnFailure>> failed = std::move(client->failed_);
  client->failed_.clear();
  uv_idle_stop(client->idle_);
  for (const auto& [attempt, failure] : failed) {
    if (!client->stopped_) {
      client->events_->OnSpawnFailed(attempt, failure);
    }
  }
}

void ProcessClient::OnSocketEvent(uv_poll_t* handle, int status, int events) {
  auto* client = static_cast<ProcessClient*>(handle->data);
  if (status < 0 || (events & UV_READABLE)) {
    client->Receive();
  }
  if ((events & UV_WRITABLE) && client->socket_poll_ == handle) {
    client->SendAll();
  }
}

void ProcessClient::Receive() {
  ssize_t n = recv(guardian_.socket.get(), received_->Space(kReceiveBytes), kReceiveBytes, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
    return;
  }
  if (n <= 0) {
    Lost();
    return;
  }
  received_->Received(static_cast<size_t>(n));
  FrameHead head;
  std::string_view payload;
  while (!stopped_ && received_->Next(&head, &payload)) {
    Answered(head.slot, head.attempt, static_cast<uint32_t>(head.kind), payload);
  }
}

void ProcessClient::Answered(uint32_t index, uint64_t generation, uint32_t kind, std::string_view payload) {
  switch (static_cast<FrameKind>(kind)) {
    case FrameKind::kReady: {
      ReadyBody body;
      by_cgroup_ = TakeBody(&payload, &body) && body.by_cgroup != 0;
      break;
    }
    case FrameKind::kLimitsReady: {
      LimitsBody body;
      v2_limits_ = TakeBody(&payload, &body) && body.v2_ready != 0;
      for (uint32_t waiting : waiting_for_limits_) {
        Slot& slot = *slots_[waiting];
        if (slot.held.empty()) {
          continue;
        }
        if (*v2_limits_) {
          uint32_t flags = 0;
          char* at = slot.held.data() + sizeof(FrameHead) + offsetof(StartBody, flags);
          memcpy(&flags, at, sizeof flags);
          flags |= kV2LimitsReady;
          memcpy(at, &flags, sizeof flags);
        }
        std::string held = std::exchange(slot.held, std::string());
        *OutTo(slot) += held;
      }
      waiting_for_limits_.clear();
      break;
    }
    case FrameKind::kSlotLost: {
      LostBody body;
      if (index < slots_.size() && slots_[index]->generation == generation && TakeBody(&payload, &body)) {
        LoseSlot(*slots_[index], body.error, body.left);
      }
      break;
    }
    default:
      break;
  }
}

void ProcessClient::OnSlotEvent(uv_poll_t* handle, int status, int events) {
  auto* slot = static_cast<Slot*>(handle->data);
  ProcessClient* client = slot->client;
  if (status < 0 || (events & UV_READABLE)) {
    client->ReceiveFrom(*slot);
  }
  if ((events & UV_WRITABLE) && slot->poll == handle) {
    client->SendTo(*slot);
  }
}

void ProcessClient::ReceiveFrom(Slot& slot) {
  const uint64_t generation = slot.generation;
  for (;;) {
    ssize_t n = recv(slot.socket.get(), slot.reader.Space(kShimReceiveBytes), kShimReceiveBytes, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0 && errno == EAGAIN) {
      return;
    }
    if (n <= 0) {
      // The guardian sees to what a dead shim leaves and says when that is done; one that lives is of no use any more.
      if (!std::exchange(slot.deaf, true)) {
        uv_poll_stop(slot.poll);
        slot.waiting_for_room = false;
        slot.replace = true;
        FrameWriter(Out()).AddText(FrameKind::kDropSlot, slot.index, slot.generation);
      }
      return;
    }
    slot.reader.Received(static_cast<size_t>(n));
    FrameHead head;
    std::string_view payload;
    while (slot.reader.Next(&head, &payload)) {
      AnsweredBy(slot, head.attempt, head.token, static_cast<uint32_t>(head.kind), payload);
      if (stopped_ || slot.generation != generation || !slot.socket) {
        return;  // by a callback
      }
    }
    if (n < static_cast<ssize_t>(kShimReceiveBytes)) {
      return;
    }
  }
}

/// Nothing of what ran in it is alive. Its shim is dead, or never was because of `error`.
void ProcessClient::LoseSlot(Slot& slot, int error, uint32_t left) {
  const uint64_t generation = slot.generation;
  if (slot.socket) {
    ReceiveFrom(slot);  // what it said last
  }
  if (stopped_ || slot.generation != generation) {
    return;
  }
  slot.replace = true;
  if (slot.attempt == 0) {
    return;
  }
  RevokeFrom(slot, 0);
  if (!slot.started) {
    SpawnFailed(slot, {SpawnStage::kSupervisor, error, slot.program});
    return;
  }
  if (!slot.exited) {
    slot.exited = true;
    ProcessExit exit;
    exit.signal = SIGKILL;
    exit.supervisor_lost = true;
    exit.wall_ms = WallMillis();
    events_->OnExited(slot.attempt, exit);
  }
  Reaped(slot, left, false);
}

void ProcessClient::RevokeFrom(Slot& slot, size_t place) {
  while (slot.next.size() > place) {
    const uint64_t last = slot.next.back().attempt;
    slot.PairOfNext(slot.next.size() - 1).attempt = 0;
    slot.next.pop_back();
    running_.erase(last);
    log_->Close(last);
    events_->OnRevoked(last);
  }
}

void ProcessClient::SpawnFailed(Slot& slot, const SpawnFailure& failure) {
  RevokeFrom(slot, 0);
  const uint64_t attempt = std::exchange(slot.attempt, 0);
  slot.pairs[slot.pair].attempt = 0;
  running_.erase(attempt);
  free_slots_.push_back(slot.index);
  events_->OnSpawnFailed(attempt, failure);
  UpdateReference();
}

void ProcessClient::Reaped(Slot& slot, uint32_t left, bool next_starts) {
  const uint64_t attempt = slot.attempt;
  // Every writer is dead, so what is in its pipes now is all there will be.
  DrainPair(slot, slot.pair);
  slot.pairs[slot.pair].attempt = 0;
  if (left > 0) {
    slot.replace = true;
  }
  if (!next_starts) {
    RevokeFrom(slot, 0);
  }
  LogWriter::Closed output = log_->Close(attempt);
  running_.erase(attempt);
  const uint64_t next = slot.next.empty() ? 0 : slot.next.front().attempt;
  slot.attempt = next;
  slot.started = false;
  slot.exited = false;
  if (next) {
    slot.pair = (slot.pair + 1) % slot.pair_count;
    slot.pairs[slot.pair].last_output = uv_now(loop_);
    slot.program = std::move(slot.next.front().program);
    slot.next.erase(slot.next.begin());
  } else {
    free_slots_.push_back(slot.index);
  }
  events_->OnReaped(attempt, output, left, next);
  UpdateReference();
}

void ProcessClient::AnsweredBy(Slot& slot, uint64_t attempt, uint32_t token, uint32_t kind, std::string_view payload) {
  if (static_cast<FrameKind>(kind) == FrameKind::kRevoked) {
    const size_t place = slot.PlaceOf(attempt);
    if (place < slot.next.size() && slot.next[place].token == token) {
      RevokeFrom(slot, place);
    }
    return;
  }
  if (slot.attempt != attempt || attempt == 0) {
    return;
  }
  switch (static_cast<FrameKind>(kind)) {
    case FrameKind::kStarted: {
      StartedBody body;
      if (TakeBody(&payload, &body)) {
        slot.started = true;
        events_->OnStarted(attempt, {body.pid, body.wall_ms, {body.memory_bytes, body.cpu_milli, body.pids}});
      }
      break;
    }
    case FrameKind::kSpawnFailed: {
      FailedBody body;
      if (TakeBody(&payload, &body)) {
        SpawnFailure failure{static_cast<SpawnStage>(body.stage), body.error, "", "", body.index, body.bytes, body.limit};
        failure.path = TakeText(&payload);
        failure.detail = TakeText(&payload);
        SpawnFailed(slot, failure);
      }
      break;
    }
    case FrameKind::kExited: {
      ExitedBody body;
      if (TakeBody(&payload, &body)) {
        slot.exited = true;
        ProcessExit exit;
        exit.signal = WIFSIGNALED(body.status) ? WTERMSIG(body.status) : 0;
        exit.exit_code = WIFEXITED(body.status) ? WEXITSTATUS(body.status) : 0;
        exit.out_of_memory = body.oom != 0;
        exit.wall_ms = body.wall_ms;
        exit.max_rss_bytes = body.max_rss_bytes;
        exit.peak_memory_bytes = body.peak_bytes;
        exit.user_us = body.user_us;
        exit.system_us = body.system_us;
        events_->OnExited(attempt, exit);
      }
      break;
    }
    case FrameKind::kReaped: {
      ReapedBody body;
      (void)TakeBody(&payload, &body);
      Reaped(slot, body.left, body.next != 0);
      break;
    }
    default:
      break;
  }
}

void ProcessClient::OnPipeEvent(uv_poll_t* handle, int, int) {
  auto* slot = static_cast<Slot*>(handle->data);
  for (int pair = 0; pair < slot->pair_count; ++pair) {
    for (int stream = 0; stream < 2; ++stream) {
      if (slot->pairs[pair].polls[stream] == handle) {
        // A few rounds: one chatty attempt must not starve the others.
        slot->client->ReadPipe(*slot, pair, stream, 4);
        return;
      }
    }
  }
}

void ProcessClient::DrainPair(Slot& slot, int pair) {
  for (int stream = 0; stream < 2; ++stream) {
    while (ReadPipe(slot, pair, stream, 1000)) {
    }
  }
}

bool ProcessClient::ReadPipe(Slot& slot, int index, int stream, int rounds) {
  Slot::Pair& pair = slot.pairs[index];
  for (int round = 0; round < rounds; ++round) {
    if (!pair.pipes[stream]) {
      return false;
    }
    ssize_t n = read(pair.pipes[stream].get(), pipe_buffer_.get(), kPipeReadBytes);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n == 0 && pair.polls[stream]) {
      uv_poll_stop(pair.polls[stream]);  // the shim's end is closed: it is gone
    }
    if (n <= 0) {
      return false;
    }
    if (pair.attempt == 0) {
      continue;  // written by something that has left its tree: belongs to nobody
    }
    pair.last_output = uv_now(loop_);
    log_->Append(pair.attempt, stream == 0 ? LogStream::kStdout : LogStream::kStderr,
                 std::string_view(pipe_buffer_.get(), static_cast<size_t>(n)));
    if (n >= 64 * 1024 && !pair.large[stream]) {
      pair.large[stream] = true;
      fcntl(pair.pipes[stream].get(), F_SETPIPE_SZ, kLargePipe);  // may be refused: then it stays as it is
    }
  }
  return true;
}

void ProcessClient::Lost() {
  if (lost_ || stopped_) {
    return;
  }
  lost_ = true;
  outgoing_.clear();
  uv_poll_stop(socket_poll_);
  kill(guardian_.pid, SIGKILL);
  while (waitpid(guardian_.pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  for (const std::unique_ptr<Slot>& slot : slots_) {
    RevokeFrom(*slot, 0);
    if (slot->poll) {
      uv_poll_stop(slot->poll);
    }
    slot->socket.Reset();  // its shim sees both ends and ends its tree
  }
  bool recorded = false;
  for (const LiveRun& run : ReadLiveRuns(options_.state_dir.empty() ? "/nonexistent" : options_.state_dir)) {
    if (run.guardian_pid == guardian_.pid && run.jobc_pid == getpid()) {
      (void)CleanUpRecord(run, 2000);
      recorded = true;
    }
  }
  if (!recorded && !options_.run_id.empty()) {
    LiveRun run;
    run.run_id = options_.run_id;
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    run.host = host;
    run.boot_id = BootId();
    run.pid_namespace = PidNamespace();
    (void)CleanUpRecord(run, 2000);
  }
  std::vector<uint64_t> attempts;
  for (const auto& [attempt, index] : running_) {
    DrainPair(*slots_[index], slots_[index]->pair);
    log_->Close(attempt);
    attempts.push_back(attempt);
  }
  std::sort(attempts.begin(), attempts.end());
  running_.clear();
  for (const std::unique_ptr<Slot>& slot : slots_) {
    slot->attempt = 0;
    slot->pairs[slot->pair].attempt = 0;
  }
  UpdateReference();
  events_->OnGuardianLost(attempts);
}

void ProcessClient::Stop() {
  if (stopped_) {
    return;
  }
  stopped_ = true;
  if (!lost_ && guardian_.socket) {
    FrameWriter(Out()).AddText(FrameKind::kBye, 0, 0);
    // The guardian may be busy answering us: read and drop that, so that neither side waits for the other.
    for (int64_t deadline = MonotonicMillis() + 12000; MonotonicMillis() < deadline;) {
      SendAll();
      if (outgoing_.empty()) {
        shutdown(guardian_.socket.get(), SHUT_WR);
      }
      pollfd watch{guardian_.socket.get(), static_cast<short>(POLLIN | (outgoing_.empty() ? 0 : POLLOUT)), 0};
      if (poll(&watch, 1, 100) <= 0) {
        continue;
      }
      char dropped[4096];
      ssize_t n = recv(guardian_.socket.get(), dropped, sizeof dropped, MSG_DONTWAIT);
      if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        break;
      }
    }
    kill(guardian_.pid, SIGKILL);  // it is at its exit, or hangs: then CleanUpStale() has its record
    while (waitpid(guardian_.pid, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  for (const auto& [attempt, index] : running_) {
    Slot& slot = *slots_[index];
    if (slot.attempt == attempt) {
      DrainPair(slot, slot.pair);
      slot.pairs[slot.pair].attempt = 0;
      slot.attempt = 0;
      log_->Close(attempt);
    }
  }
  running_.clear();
  log_->Flush();
  for (const std::unique_ptr<Slot>& slot : slots_) {
    CloseSlot(*slot);
  }
  if (socket_poll_) {
    uv_poll_stop(socket_poll_);
    CloseHandle(std::exchange(socket_poll_, nullptr));
  }
  if (prepare_) {
    uv_prepare_stop(prepare_);
    CloseHandle(std::exchange(prepare_, nullptr));
    CloseHandle(std::exchange(check_, nullptr));
    CloseHandle(std::exchange(idle_, nullptr));
  }
  guardian_.socket.Reset();
}

}  // namespace jobc::process

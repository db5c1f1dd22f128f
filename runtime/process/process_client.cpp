#include "runtime/process/process_client.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include "runtime/process/process_tree.h"
#include "runtime/process/protocol.h"

namespace jobc::process {
namespace {

constexpr size_t kPipeReadBytes = 256 * 1024;
constexpr int kLargePipe = 512 * 1024;
constexpr size_t kReceiveBytes = 64 * 1024;

template <typename Handle>
void CloseHandle(Handle* handle) {
  uv_close(reinterpret_cast<uv_handle_t*>(handle),
           [](uv_handle_t* closed) { delete reinterpret_cast<Handle*>(closed); });
}

}  // namespace

/// A place for one attempt at a time, with the pipes that its attempts write to.
struct ProcessClient::Slot {
  ProcessClient* client = nullptr;
  uint32_t index = 0;
  UniqueFd pipes[2];
  uv_poll_t* polls[2] = {nullptr, nullptr};
  uint64_t attempt = 0;
  bool busy = false;
  bool replace = false;  ///< its last tree was killed: something may have kept the pipe's end
  bool large[2] = {false, false};
  uint64_t last_output = 0;
};

ProcessClient::ProcessClient(uv_loop_t* loop, GuardianHandle guardian, LogWriter* log, ProcessEvents* events)
    : loop_(loop), guardian_(std::move(guardian)), log_(log), events_(events), received_(kReceiveBytes),
      pipe_buffer_(new char[kPipeReadBytes]) {}

Result<std::unique_ptr<ProcessClient>> ProcessClient::Create(uv_loop_t* loop, GuardianHandle guardian,
                                                             const Options& options, LogWriter* log,
                                                             ProcessEvents* events) {
  // Four descriptors a slot; jobs get the limit that the guardian was born with.
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  std::unique_ptr<ProcessClient> client(new ProcessClient(loop, std::move(guardian), log, events));
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

Result<void> ProcessClient::MakePipes(Slot& slot) {
  Outgoing announce;
  for (int stream = 0; stream < 2; ++stream) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
      return SystemError("cannot make a pipe", errno);
    }
    slot.pipes[stream].Reset(ends[0]);
    announce.fds[stream].Reset(ends[1]);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    slot.large[stream] = false;
    slot.polls[stream] = new uv_poll_t;
    if (int error = uv_poll_init(loop_, slot.polls[stream], ends[0])) {
      delete std::exchange(slot.polls[stream], nullptr);
      return Error{fmt::format("cannot watch a pipe: {}", uv_strerror(error)), -error};
    }
    slot.polls[stream]->data = &slot;
    uv_poll_start(slot.polls[stream], UV_READABLE, OnPipeEvent);
    uv_unref(reinterpret_cast<uv_handle_t*>(slot.polls[stream]));
  }
  slot.replace = false;
  FrameWriter(&announce.bytes).AddText(FrameKind::kSlot, slot.index, 0);
  outgoing_.push_back(std::move(announce));
  return {};
}

void ProcessClient::ClosePipes(Slot& slot) {
  for (int stream = 0; stream < 2; ++stream) {
    if (slot.polls[stream]) {
      uv_poll_stop(slot.polls[stream]);
      CloseHandle(std::exchange(slot.polls[stream], nullptr));
    }
    slot.pipes[stream].Reset();
  }
}

std::string* ProcessClient::Out() {
  if (outgoing_.empty() || outgoing_.back().fds[0]) {
    outgoing_.emplace_back();
  }
  return &outgoing_.back().bytes;
}

void ProcessClient::Start(uint64_t attempt, const ProcessSpec& spec) {
  SpawnFailure failure;
  if (lost_ || stopped_) {
    FailLater(attempt, {SpawnStage::kFork, EPIPE, spec.argv.empty() ? "" : spec.argv[0]});
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
    ClosePipes(slot);
  }
  if (!slot.pipes[0] || !slot.pipes[1]) {
    if (Result<void> made = MakePipes(slot); !made) {
      ClosePipes(slot);
      FailLater(attempt, {SpawnStage::kFork, made.error().code, spec.argv[0]});
      return;
    }
  }
  free_slots_.pop_back();
  slot.attempt = attempt;
  slot.busy = true;
  slot.last_output = uv_now(loop_);
  running_[attempt] = index;
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
  for (const std::vector<std::string>* list : {&spec.argv, &spec.env}) {
    for (const std::string& text : *list) {
      tail.append(text.c_str(), strlen(text.c_str()) + 1);  // values with a NUL were refused when they were rendered
    }
  }
  StartBody body{spec.limits.memory_bytes, spec.limits.cpu_milli, spec.limits.pids,
                 static_cast<uint32_t>(spec.argv.size()), static_cast<uint32_t>(spec.env.size())};
  FrameWriter(Out()).Add(FrameKind::kStart, index, attempt, body, tail);
  UpdateReference();
}

void ProcessClient::Signal(uint64_t attempt, int signal) {
  if (auto it = running_.find(attempt); it != running_.end() && !lost_) {
    slots_[it->second]->replace = true;
    FrameWriter(Out()).Add(FrameKind::kSignal, it->second, attempt, SignalBody{signal});
  }
}

void ProcessClient::KillTree(uint64_t attempt) {
  if (auto it = running_.find(attempt); it != running_.end() && !lost_) {
    slots_[it->second]->replace = true;
    FrameWriter(Out()).AddText(FrameKind::kKillTree, it->second, attempt);
  }
}

void ProcessClient::RemoveOnDeath(const std::string& path) {
  FrameWriter(Out()).AddText(FrameKind::kRegister, 0, 0, path);
  SendAll();  // before anything is put there
}

void ProcessClient::KeepOnDeath(const std::string& path) { FrameWriter(Out()).AddText(FrameKind::kUnregister, 0, 0, path); }

uint64_t ProcessClient::LastOutput(uint64_t attempt) const {
  auto it = running_.find(attempt);
  return it == running_.end() ? uv_now(loop_) : slots_[it->second]->last_output;
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
    alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {};
    if (first.fds[0]) {
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      cmsghdr* c = CMSG_FIRSTHDR(&message);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(2 * sizeof(int));
      int fds[2] = {first.fds[0].get(), first.fds[1].get()};
      memcpy(CMSG_DATA(c), fds, sizeof fds);
    }
    ssize_t n = sendmsg(guardian_.socket.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      break;  // full: goes on when there is room; or the guardian is dead, which reading finds out
    }
    first.fds[0].Reset();
    first.fds[1].Reset();
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
  log_->Flush();
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
  if (received_.size() < received_bytes_ + kReceiveBytes) {
    received_.resize(received_bytes_ + kReceiveBytes);
  }
  ssize_t n = recv(guardian_.socket.get(), received_.data() + received_bytes_, kReceiveBytes, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
    return;
  }
  if (n <= 0) {
    Lost();
    return;
  }
  received_bytes_ += static_cast<size_t>(n);
  size_t at = 0;
  while (received_bytes_ - at >= sizeof(FrameHead)) {
    FrameHead head;
    memcpy(&head, received_.data() + at, sizeof head);
    if (head.bytes < sizeof head || received_bytes_ - at < head.bytes) {
      break;
    }
    Answered(head.slot, head.attempt, static_cast<uint32_t>(head.kind),
             std::string_view(received_.data() + at + sizeof head, head.bytes - sizeof head));
    at += head.bytes;
    if (stopped_) {
      return;  // by a callback
    }
  }
  memmove(received_.data(), received_.data() + at, received_bytes_ - at);
  received_bytes_ -= at;
}

void ProcessClient::Answered(uint32_t index, uint64_t attempt, uint32_t kind, std::string_view payload) {
  if (static_cast<FrameKind>(kind) == FrameKind::kReady) {
    ReadyBody body;
    by_cgroup_ = TakeBody(&payload, &body) && body.by_cgroup != 0;
    return;
  }
  if (index >= slots_.size() || !slots_[index]->busy || slots_[index]->attempt != attempt) {
    return;
  }
  Slot& slot = *slots_[index];
  auto release = [&] {
    slot.busy = false;
    running_.erase(attempt);
    free_slots_.push_back(index);
  };
  switch (static_cast<FrameKind>(kind)) {
    case FrameKind::kStarted: {
      StartedBody body;
      if (TakeBody(&payload, &body)) {
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
        release();
        events_->OnSpawnFailed(attempt, failure);
        UpdateReference();
      }
      break;
    }
    case FrameKind::kExited: {
      ExitedBody body;
      if (TakeBody(&payload, &body)) {
        ProcessExit exit;
        exit.signal = WIFSIGNALED(body.status) ? WTERMSIG(body.status) : 0;
        exit.exit_code = WIFEXITED(body.status) ? WEXITSTATUS(body.status) : 0;
        exit.out_of_memory = body.oom != 0;
        exit.supervisor_lost = body.lost != 0;
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
      // Every writer is dead, so what is in the pipes now is all there will be.
      for (int stream = 0; stream < 2; ++stream) {
        while (ReadPipe(slot, stream, 1000)) {
        }
      }
      if (body.left > 0) {
        slot.replace = true;
      }
      LogWriter::Closed output = log_->Close(attempt);
      release();
      events_->OnReaped(attempt, output, body.left);
      UpdateReference();
      break;
    }
    default:
      break;
  }
}

void ProcessClient::OnPipeEvent(uv_poll_t* handle, int, int) {
  auto* slot = static_cast<Slot*>(handle->data);
  int stream = slot->polls[0] == handle ? 0 : 1;
  // A few rounds: one chatty attempt must not starve the others.
  slot->client->ReadPipe(*slot, stream, 4);
}

bool ProcessClient::ReadPipe(Slot& slot, int stream, int rounds) {
  for (int round = 0; round < rounds; ++round) {
    if (!slot.pipes[stream]) {
      return false;
    }
    ssize_t n = read(slot.pipes[stream].get(), pipe_buffer_.get(), kPipeReadBytes);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n == 0 && slot.polls[stream]) {
      uv_poll_stop(slot.polls[stream]);  // the guardian's end is closed: it is gone
    }
    if (n <= 0) {
      return false;
    }
    if (!slot.busy) {
      continue;  // written by something that has left its tree: belongs to nobody
    }
    slot.last_output = uv_now(loop_);
    log_->Append(slot.attempt, stream == 0 ? LogStream::kStdout : LogStream::kStderr,
                 std::string_view(pipe_buffer_.get(), static_cast<size_t>(n)));
    if (n >= 64 * 1024 && !slot.large[stream]) {
      slot.large[stream] = true;
      fcntl(slot.pipes[stream].get(), F_SETPIPE_SZ, kLargePipe);  // may be refused: then it stays as it is
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
    for (int stream = 0; stream < 2; ++stream) {
      while (ReadPipe(*slots_[index], stream, 1000)) {
      }
    }
    log_->Close(attempt);
    attempts.push_back(attempt);
  }
  std::sort(attempts.begin(), attempts.end());
  running_.clear();
  for (const std::unique_ptr<Slot>& slot : slots_) {
    slot->busy = false;
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
      ssize_t n = recv(guardian_.socket.get(), received_.data(), received_.size(), MSG_DONTWAIT);
      if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        break;
      }
    }
    kill(guardian_.pid, SIGKILL);  // it is at its exit, or hangs: then CleanUpStale() has its record
    while (waitpid(guardian_.pid, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  for (const auto& [attempt, index] : running_) {
    for (int stream = 0; stream < 2; ++stream) {
      while (ReadPipe(*slots_[index], stream, 1000)) {
      }
    }
    log_->Close(attempt);
  }
  running_.clear();
  log_->Flush();
  for (const std::unique_ptr<Slot>& slot : slots_) {
    ClosePipes(*slot);
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

#include "backends/docker/docker_backend.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <deque>
#include <filesystem>
#include <map>
#include <set>
#include <unordered_map>
#include <utility>

#include "backends/container/init.h"
#include "backends/container/places.h"
#include "backends/docker/credentials.h"
#include "backends/docker/endpoint.h"
#include "backends/docker/engine_api.h"
#include "backends/docker/tar.h"
#include "ir/mounts.h"
#include "runtime/http_client.h"
#include "runtime/launch_options.h"
#include "runtime/process/attempt_dir.h"
#include "runtime/process/os.h"

namespace jobc {
namespace {

using docker::ApiPath;
using docker::ContainerState;
using docker::Step;
using process::MonotonicMillis;
using process::WallMillis;

constexpr size_t kMostAnswer = 64 << 20;
constexpr int64_t kFirstBackoffMs = 100, kMostBackoffMs = 2'000;
constexpr int64_t kProgressMs = 10'000;      ///< between two notes about a pull
constexpr int64_t kLogTryMs = 100;           ///< until a log that is not there yet is asked for again; twice as long each time
constexpr int64_t kMostLogTryMs = 5'000;
constexpr int kMostLogTries = 6;             ///< after the end of the program
constexpr int64_t kLookMs = 100;             ///< between two looks whether a container that was killed is being removed
constexpr int kMostLooks = 5;
constexpr int64_t kLateLogMs = 5'000;        ///< for the end of the output after that of the program
constexpr size_t kPiece = 1 << 20;           ///< of files that are copied
constexpr int64_t kStallMs = 120'000;        ///< without a byte of them
constexpr int kMostTries = 5;                ///< to take outputs back
constexpr int kMostUnanswered = 3;           ///< questions in a row, until people are told

/// A single-shot timer that its owner may drop at any time.
class Timer {
 public:
  explicit Timer(uv_loop_t* loop) : handle_(new uv_timer_t) {
    uv_timer_init(loop, handle_);
    handle_->data = this;
  }
  ~Timer() {
    uv_timer_stop(handle_);
    uv_close(reinterpret_cast<uv_handle_t*>(handle_), [](uv_handle_t* handle) { delete reinterpret_cast<uv_timer_t*>(handle); });
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  void Start(int64_t ms, std::function<void()> run) {
    run_ = std::move(run);
    uv_timer_start(handle_, [](uv_timer_t* handle) {
      std::function<void()> now = std::move(static_cast<Timer*>(handle->data)->run_);
      now();  // may drop the timer
    }, static_cast<uint64_t>(std::max<int64_t>(ms, 0)), 0);
  }
  void Stop() { uv_timer_stop(handle_); }

 private:
  uv_timer_t* handle_;
  std::function<void()> run_;
};

/// Everything below `path` belongs to `uid`:`gid`; links are not followed. Returns the first errno.
int ChownTree(const std::string& path, uid_t uid, gid_t gid) {
  namespace fs = std::filesystem;
  int first = lchown(path.c_str(), uid, gid) == 0 ? 0 : errno;
  std::error_code error;
  for (fs::recursive_directory_iterator at(path, error), end; !error && at != end; at.increment(error)) {
    if (lchown(at->path().c_str(), uid, gid) != 0 && errno != ENOENT && first == 0) first = errno;
  }
  return first != 0 ? first : error.value();
}

/// For a user in the container that is not ours and cannot be given our files.
void OpenToAll(const std::string& path, bool writable) {
  namespace fs = std::filesystem;
  const auto more = writable ? fs::perms::all : fs::perms::owner_read | fs::perms::group_read | fs::perms::others_read;
  const auto search = fs::perms::owner_exec | fs::perms::group_exec | fs::perms::others_exec;
  std::error_code error;
  fs::permissions(path, more | search, fs::perm_options::add, error);
  for (fs::recursive_directory_iterator at(path, error), end; !error && at != end; at.increment(error)) {
    std::error_code ignored;
    if (at->is_symlink(ignored)) continue;
    const bool is_dir = at->is_directory(ignored);
    const bool runs = (at->status(ignored).permissions() & fs::perms::owner_exec) != fs::perms::none;
    fs::permissions(at->path(), is_dir || runs ? more | search : more, fs::perm_options::add, ignored);
  }
}

/// Files on their way to or from a container. A thread works on it while nobody else does; who gives it up says so.
struct Transfer {
  uint64_t http = 0;
  std::optional<docker::TarMaker> maker;
  std::optional<docker::TarTaker> taker;
  std::string bytes;             ///< made and not yet sent, or come and not yet written
  size_t sent = 0;
  bool busy = false;             ///< in the thread
  bool last = false;             ///< nothing is made, or comes, after `bytes`
  bool dropped = false;
  std::optional<Error> problem;  ///< of this machine's files, or of the archive
  int status = 0;
  std::string refusal;
  std::function<void()> then;    ///< after the thread
};

struct Reply {
  HttpEnd end;
  int status = 0;
  std::string body;
  bool Is(int low) const { return end.ok() && status / 100 * 100 == low; }
};

class DockerBackend : public Backend {
 public:
  DockerBackend(ir::BackendKind kind, const BackendHost& host, const DockerTimes& times)
      : host_(host), times_(times), flavour_(docker::FlavourOf(kind)), around_(docker::Surroundings::Real()), state_label_(docker::StateLabel(host.state_dir)) {}

  ~DockerBackend() override { Stop(); }

  Result<void> Open() {
    auto client = HttpClient::Create(host_.loop);
    if (!client) return client.error();
    client_ = *std::move(client);
    auto dirs = process::AttemptDirs::Open(host_.run_dir);
    if (!dirs) return dirs.error();
    dirs_ = *std::move(dirs);
    auto init = container::InstallInit(host_.state_dir);
    if (!init) return init.error();
    init_ = *std::move(init);
    helpers_ = std::make_unique<docker::CredentialHelpers>(host_.loop);
    soon_timer_ = std::make_unique<Timer>(host_.loop);
    auto places = host_.engines;
    if (places.empty()) places.emplace_back();
    for (const BackendHost::Engine& place : places) {
      auto link = LinkTo(place.host, place.context);
      if (!link) return link.error();
      if (auto able = CanLimit(**link, place); !able) return able.error();
    }
    return {};
  }

  Result<AttemptPlaces> Prepare(AttemptId id, bool secrets) override {
    auto places = container::MakePlaces(host_.run_dir, id);
    if (!places) return places;
    if (secrets) {
      auto made = process::MakeMemoryDirectory(SecretsName(host_.run_id, id));
      if (!made) return Error{"secret files are kept in memory only, and there is no place for them: " + made.error().message, made.error().code};
      places->secrets_dir = *std::move(made);
    }
    prepared_[id] = *places;
    return places;
  }

  void Submit(const AttemptLaunch& launch) override {
    Attempt& attempt = Take(launch);
    auto link = LinkTo(TextOption(launch, "host"), TextOption(launch, "context"));
    if (!link) return FailSoon(launch.id, Failed(ir::ErrorKind::Network, link.error().message));
    attempt.link = *link;
    if (launch.image.empty()) return FailSoon(launch.id, Failed(ir::ErrorKind::Image, "the job has no image"));
    if (!attempt.link->up) {
      return FailSoon(launch.id, docker::UnreachableVerdict(flavour_, attempt.link->endpoint.text, attempt.link->problem.empty() ? "the connection was lost" : attempt.link->problem));
    }
    if (launch.resources.disk) {
      Note(*attempt.link, fmt::format("`resources.disk` is not enforced by {}: containers share the disk of the engine", ir::BackendName(flavour_.kind)));
    }
    NeedImage(launch.id, attempt);
  }

  void Cancel(AttemptId id, int64_t grace_ms) override {
    auto found = attempts_.find(id);
    if (found == attempts_.end() || found->second.told_exit) return;
    Attempt& attempt = found->second;
    if (attempt.phase == Phase::Image) {
      return FailSoon(id, Failed(ir::ErrorKind::Cancelled, "it was cancelled before its container began"));
    }
    const bool again = std::exchange(attempt.cancelled, true);
    if (!again) attempt.cancelled_ms = MonotonicMillis();
    attempt.grace_ms = again ? std::min(attempt.grace_ms, grace_ms) : grace_ms;
    if (attempt.transfer != nullptr && attempt.phase == Phase::Created) {
      Drop(attempt);
      return FailSoon(id, Failed(ir::ErrorKind::Cancelled, "it was cancelled before its container began"));
    }
    if (attempt.collecting) {
      Soon([this, id] {
        if (auto now = attempts_.find(id); now != attempts_.end() && now->second.collecting) EndCollecting(id, now->second, Failed(ir::ErrorKind::Cancelled, "it was cancelled while its outputs were copied"));
      });
      return;
    }
    if (attempt.phase == Phase::Running) EndIt(id, attempt);
  }

  bool Withdraw(AttemptId id) override {
    auto found = attempts_.find(id);
    if (found == attempts_.end() || found->second.phase != Phase::Image || found->second.failing) return false;
    Forget(id);
    return true;
  }

  std::optional<AttemptPlaces> FindPlaces(AttemptId id, bool secrets) override { return FindPlacesOf(id, secrets, {host_.run_id, host_.run_dir, id}); }

  std::optional<AttemptPlaces> FindPlacesOf(AttemptId id, bool secrets, const AttemptOrigin& origin) override {
    auto places = container::FindPlaces(origin.run_dir, origin.id);
    if (places && secrets) {
      for (const std::string& root : {std::string("/dev/shm"), around_.RuntimeDir(), std::string("/run")}) {
        std::error_code error;
        for (std::filesystem::directory_iterator at(root, error), end; !error && at != end && places->secrets_dir.empty(); at.increment(error)) {
          if (at->path().filename().string().starts_with(SecretsName(origin.run, origin.id) + "-")) places->secrets_dir = at->path().string();
        }
      }
    }
    if (places) prepared_[id] = *places;
    return places;
  }

  void Attach(const AttemptLaunch& launch, const std::string& handle) override {
    Attempt& attempt = Take(launch);
    const AttemptId id = launch.id;
    auto link = LinkTo(TextOption(launch, "host"), TextOption(launch, "context"));
    if (!link) {
      return Soon([this, id, why = link.error().message] { Unattached(id, AttachAnswer::Unknown, why); });
    }
    attempt.link = *link;
    attempt.phase = Phase::Created;
    attempt.handle = handle;
    attempt.chown = around_.uid == 0;
    AskFor(id, "GET", "/containers/" + docker::ContainerName(launch.execution_id) + "/json", "", [this, id](Attempt& now, const Reply& reply) {
      auto state = reply.Is(200) ? docker::ParseContainer(reply.body) : std::nullopt;
      if (!reply.end.ok() || (!state && reply.status != 404)) {
        return Unattached(id, AttachAnswer::Unknown, reply.end.ok() ? docker::ErrorMessage(reply.body) : reply.end.message);
      }
      const std::string& run = now.launch.run.empty() ? host_.run_id : now.launch.run;
      if (!state) not_there_.push_back({now.link, docker::ContainerName(now.launch.execution_id), false});
      if (!state || state->run != run || state->attempt != now.launch.execution_id) return Unattached(id, AttachAnswer::Gone, "");
      if (!state->Lives() && !state->Ended()) {
        // It never began. A start that is still on its way finds it gone, or is ended with it, before anything starts in its stead.
        host_.events->OnNeverBegan(id);
        if (attempts_.count(id) == 0) return;
        return AskFor(id, "DELETE", ApiPath("/containers/" + state->id, {{"force", "1"}, {"v", "1"}}), "", [this, id, container = state->id](Attempt& gone, const Reply& removal) {
          if (!removal.end.ok()) return Unattached(id, AttachAnswer::Unknown, removal.end.message);
          if (!removal.Is(200) && removal.status != 404) Remove(*gone.link, container);
          Unattached(id, AttachAnswer::Gone, "");
        });
      }
      HideFormerSecrets(id, now, state->env);
      if (attempts_.count(id) == 0) return;
      host_.events->OnAttached(id, AttachAnswer::Found, "");
      if (attempts_.count(id) == 0) return;
      GoOnWith(id, now, *state);
    });
  }

  void Release(AttemptId id, bool keep) override {
    if (auto over = over_.find(id); over != over_.end()) {
      const Doomed gone = over->second;
      over_.erase(over);
      Remove(*gone.link, gone.name);
    }
    auto found = prepared_.find(id);
    if (found == prepared_.end()) return;
    const AttemptPlaces places = std::move(found->second);
    prepared_.erase(found);
    dirs_->RemoveLater(places.tmp_dir);
    if (!places.secrets_dir.empty()) (void)process::RemoveTree(places.secrets_dir).ok();
    if (!keep) dirs_->RemoveLater(std::filesystem::path(places.output_dir).parent_path().string());
  }

  void RemoveLater(const std::string& path) override { dirs_->RemoveLater(path); }

  uint64_t LastOutput(AttemptId id) const override {
    auto found = attempts_.find(id);
    return found == attempts_.end() ? 0 : found->second.last_output;
  }

  void Stop() override {
    if (client_ == nullptr) return;
    stopping_ = true;
    for (auto& [id, attempt] : attempts_) Drop(attempt);
    helpers_.reset();
    client_.reset();
    soon_timer_.reset();
    std::vector<Doomed> doomed;
    for (auto& [key, link] : links_) {
      for (auto& [name, image] : link->images) image.stall.reset();
      link->timer.reset();
      link->watch.reset();
      for (const std::string& name : link->condemned) doomed.push_back({link.get(), name, false});
      for (const std::string& name : link->removing) doomed.push_back({link.get(), name, false});
    }
    for (const auto& [id, over] : over_) doomed.push_back(over);
    over_.clear();
    doomed.insert(doomed.end(), not_there_.begin(), not_there_.end());
    not_there_.clear();
    for (auto& [id, attempt] : attempts_) {
      if (attempt.link != nullptr && attempt.phase != Phase::Image) {
        doomed.push_back({attempt.link, docker::ContainerName(attempt.launch.execution_id), attempt.phase == Phase::Creating});
      }
      host_.log->Close(id);
      if (!attempt.launch.places.secrets_dir.empty()) (void)process::RemoveTree(attempt.launch.places.secrets_dir).ok();
    }
    attempts_.clear();
    RemoveNow(doomed);
  }

  void LetGo() override {
    for (auto& [id, attempt] : attempts_) {
      host_.log->Close(id);
      Drop(attempt);
    }
    attempts_.clear();
    not_there_.clear();
    Stop();
  }

 private:
  enum class Phase : uint8_t {
    Image,     // waits for its image; nothing of it is at the engine
    Creating,  // the request is under way
    Created,   // there is a container; its user, directories and output are prepared
    Starting,  // the request is under way
    Running,   // started; until it is told that it has ended
    Ended,     // told; until its output is all there
  };

  struct Image {
    enum class State : uint8_t { Unknown, Busy, Ready } state = State::Unknown;
    docker::ImageInfo info;
    bool pulled = false;
    std::optional<std::string> passwd;
    std::vector<AttemptId> waiting;
    docker::Lines lines;
    docker::PullProgress progress;
    int64_t began_ms = 0, told_ms = 0;
    uint64_t request = 0;          ///< of the pull
    std::unique_ptr<Timer> stall;  ///< to its end, if nothing comes
  };

  struct Link {
    docker::Endpoint endpoint;
    docker::EngineFacts facts;
    bool up = false;
    enum class Sees : uint8_t { Unknown, Yes, No } sees = Sees::Unknown;  ///< this machine's files
    AttemptId prober = 0;         ///< whose container shows it
    std::vector<AttemptId> unsure;  ///< wait for that
    std::string problem;          ///< why it is not
    uint64_t events = 0;          ///< the request of the stream
    docker::Lines lines;
    int64_t last_event_ns = 0;
    bool catching_up = false;     ///< it was away: events are of that time until the list of containers has come
    int64_t down_since = 0, backoff_ms = kFirstBackoffMs;
    bool mute = false;            ///< while it is not `up`: there is somebody, who says nothing
    int64_t heard_ms = 0;         ///< its last sign of life
    int64_t silent_since = 0;     ///< when the first question was asked that it has not answered; 0: it answers
    int unanswered = 0;           ///< questions in a row
    bool told_silent = false;     ///< people were
    std::unique_ptr<Timer> timer, watch;
    std::map<std::string, Image> images;
    std::set<std::string> condemned;  ///< containers by name or id: to be removed when the engine answers again
    std::set<std::string> removing;   ///< the request is under way
    std::set<std::string> told;       ///< notes
    std::set<std::string> gpus;       ///< in use
    std::unordered_map<std::string, AttemptId> by_container;
  };

  struct Attempt {
    AttemptLaunch launch;
    Link* link = nullptr;
    Phase phase = Phase::Image;
    std::string container;       ///< id
    std::string handle;          ///< container id and image digest
    bool failing = false;        ///< FailSoon() was called
    bool cancelled = false;
    int64_t cancelled_ms = 0;
    int64_t grace_ms = 0, term_ms = -1;
    bool told_submitted = false, told_started = false, told_exit = false;
    bool died = false;           ///< the engine says so
    bool asked = false;          ///< for its state, after that
    bool concluding = false;
    bool away = false;           ///< it ended while the engine was away
    bool started_again = false;  ///< the engine went away before it had answered to the start
    int exit_code = 0, killed_by = 0;
    bool oom = false;
    bool may_have_begun = false;  ///< nobody answered to the start
    int64_t unanswered_ms = 0;    ///< since when that is known
    bool removed = false;         ///< its container was, by somebody else
    int64_t started_ms = 0, ended_ms = 0;
    uint64_t output = 0;         ///< the request of its output
    bool output_done = false;
    bool from_log = false;       ///< it is read from the engine's log, and whole only if it was read after the end
    bool log_final = false;      ///< the request of its output was sent after that
    bool waits_for_log = false;  ///< its end is told once that has come
    int log_tries = 0;           ///< how often the log was refused, ended early or came to a halt
    std::string lost_output;     ///< why the engine does not give it
    docker::LogFrames frames;
    std::string held;            ///< of standard error: may be the engine's own words (Flavour::lost_stream)
    std::array<uint64_t, 2> got{}, skip{};  ///< bytes of stdout and stderr: taken so far; to be left out of what comes again
    uint64_t last_output = 0;
    bool copied = false;         ///< its files are copied in and out
    std::shared_ptr<Transfer> transfer;
    bool collecting = false;     ///< they are on their way back
    bool clearing = false;       ///< and will not all come
    size_t collected = 0;        ///< parts that are here
    int tries = 0;
    std::optional<Verdict> problem;  ///< why they are not
    bool chown = false;          ///< its files belong to a user of the image until it has ended
    std::vector<std::string> gpus;
    std::unique_ptr<Timer> timer;        ///< to KILL
    std::unique_ptr<Timer> look;         ///< whether it is there any more
    int looks = 0;
    std::unique_ptr<Timer> retry, late;  ///< to read its output again
    std::unique_ptr<Timer> again;        ///< to copy, or to ask whether it began
  };

  struct Doomed {
    Link* link;
    std::string name;
    bool may_come;               ///< its creation was under way
  };

  Attempt& Take(const AttemptLaunch& launch) {
    Attempt& attempt = attempts_[launch.id];
    attempt.launch = launch;
    attempt.last_output = uv_now(host_.loop);
    ConfigureLog(launch);
    return attempt;
  }

  void ConfigureLog(const AttemptLaunch& launch) {
    if (launch.log_limit || !host_.masker->empty()) {
      process::LogOptions options;
      if (launch.log_limit) options.limit_bytes = *launch.log_limit;
      auto filter = [&]() { return host_.masker->empty() ? process::LogFilter() : process::MakeMaskingFilter(host_.masker->patterns(), std::string(kMask)); };
      host_.log->Configure(launch.id, options, filter(), filter());
    }
  }

  /// What the container was given and we would not give it any more: it may say that as well, and has said it before.
  void HideFormerSecrets(AttemptId id, const Attempt& attempt, const std::vector<std::string>& env) {
    const AttemptLaunch launch = attempt.launch;
    std::vector<std::string> former;
    for (const std::string& entry : launch.env) {
      const size_t equals = entry.find('=');
      const std::string_view name = std::string_view(entry).substr(0, equals + 1), value = std::string_view(entry).substr(equals + 1);
      auto then = std::find_if(env.begin(), env.end(), [&](const std::string& one) { return one.starts_with(name); });
      if (equals == std::string::npos || then == env.end() || !host_.masker->Contains(value)) continue;
      for (std::string& one : FormerSecrets(*host_.masker, value, std::string_view(*then).substr(name.size()))) former.push_back(std::move(one));
    }
    if (const std::string& dir = launch.places.secrets_dir; !dir.empty()) {
      std::error_code error;
      for (std::filesystem::recursive_directory_iterator at(dir, error), end; !error && at != end; at.increment(error)) {
        std::error_code ignored;
        if (!at->is_regular_file(ignored) || at->is_symlink(ignored)) continue;
        std::string text = process::ReadFile(at->path().string()).value_or("");
        while (text.ends_with('\n')) text.pop_back();
        if (!text.empty() && !host_.masker->Contains(text)) former.push_back(std::move(text));
      }
    }
    if (former.empty()) return;
    host_.events->OnFormerSecrets(id, former);
    ConfigureLog(launch);  // nothing of it was read yet
  }

  // -- Requests ----------------------------------------------------------------------

  HttpRequest Request(const Link& link, std::string method, const std::string& path) const {
    HttpRequest request;
    request.method = std::move(method);
    request.url = link.endpoint.base_url + link.facts.api + path;
    request.unix_socket = link.endpoint.unix_socket;
    request.tls = link.endpoint.tls;
    return request;
  }

  void Ask(Link& link, std::string method, const std::string& path, std::string body, std::function<void(const Reply&)> then, int64_t total_ms = 0,
           std::vector<std::string> headers = {}) {
    HttpRequest request = Request(link, std::move(method), path);
    request.headers = std::move(headers);
    if (!body.empty()) request.headers.push_back("Content-Type: application/json");
    request.body = std::move(body);
    request.total_ms = total_ms > 0 ? total_ms : times_.request_ms;
    auto reply = std::make_shared<Reply>();
    HttpHandlers handlers;
    handlers.on_head = [reply, &link](const HttpHead& head) {
      reply->status = head.status;
      link.heard_ms = MonotonicMillis();
    };
    handlers.on_data = [reply](std::string_view bytes) {
      if (reply->body.size() + bytes.size() <= kMostAnswer) reply->body.append(bytes);
      return true;
    };
    handlers.on_end = [reply, then = std::move(then)](const HttpEnd& end) {
      reply->end = end;
      then(*reply);
    };
    client_->Send(std::move(request), std::move(handlers));
  }

  /// The same for an attempt: nothing is called if it is gone by then.
  void AskFor(AttemptId id, std::string method, const std::string& path, std::string body, std::function<void(Attempt&, const Reply&)> then) {
    Ask(*attempts_.at(id).link, std::move(method), path, std::move(body), [this, id, then = std::move(then)](const Reply& reply) {
      if (auto found = attempts_.find(id); found != attempts_.end()) then(found->second, reply);
    });
  }

  void Soon(std::function<void()> run) {
    soon_.push_back(std::move(run));
    if (soon_.size() > 1) return;
    soon_timer_->Start(0, [this] {
      std::vector<std::function<void()>> all;
      all.swap(soon_);
      for (auto& one : all) one();
    });
  }

  void Note(Link& link, std::string text) {
    if (link.told.insert(text).second) host_.events->OnWarning(flavour_.kind, std::move(text));
  }

  // -- The engine --------------------------------------------------------------------

  /// Blocks for a moment where it is a new one: only before the run, in practice.
  Result<Link*> LinkTo(const std::string& host, const std::string& context) {
    const auto key = std::pair(host, context);
    if (auto found = links_.find(key); found != links_.end()) return found->second.get();
    auto endpoint = docker::OpenEndpoint(flavour_.kind, host, context, around_);
    if (!endpoint) return endpoint.error();
    auto link = std::make_unique<Link>();
    link->endpoint = *std::move(endpoint);
    std::array<std::string, 3> about;
    std::array<std::string, 3> paths = {"/version", "/info", ""};
    for (size_t i = 0; i < about.size(); ++i) {
      if (i == 2) paths[i] = docker::LibpodInfoPath(about[0]);
      if (paths[i].empty()) continue;
      HttpRequest request = Request(*link, "GET", paths[i]);
      request.total_ms = 30'000;
      HttpEnd end;
      auto answer = FetchNow(std::move(request), kMostAnswer, &end);
      if (!answer) return Error{docker::NoEngineMessage(flavour_.kind, link->endpoint, end, around_)};
      if (answer->head.status != 200) {
        if (auto tls = docker::TlsTrouble(link->endpoint, end, docker::ErrorMessage(answer->body))) {
          return Error{fmt::format("{} at {} cannot be used: {}. {}", ir::BackendName(flavour_.kind), link->endpoint.text, tls->what, tls->help)};
        }
        return Error{fmt::format("{} at {} answered with status {}: {}", ir::BackendName(flavour_.kind), link->endpoint.text, answer->head.status, docker::ErrorMessage(answer->body))};
      }
      about[i] = std::move(answer->body);
    }
    auto facts = docker::ParseFacts(about[0], about[1], about[2]);
    if (!facts) return Error{fmt::format("{} at {}: {}", ir::BackendName(flavour_.kind), link->endpoint.text, facts.error().message)};
    link->facts = *std::move(facts);
    link->up = true;
    link->timer = std::make_unique<Timer>(host_.loop);
    link->watch = std::make_unique<Timer>(host_.loop);
    link->heard_ms = MonotonicMillis();
    Link* raw = link.get();
    links_.emplace(key, std::move(link));
    Listen(*raw);
    Watch(*raw);
    return raw;
  }

  /// A limit that would silently not be one is no reason to run: what was to be protected is not.
  Result<void> CanLimit(const Link& link, const BackendHost::Engine& place) const {
    const docker::EngineFacts& facts = link.facts;
    auto problem = [&](const std::string& job, const char* what) {
      return Error{fmt::format("{} at {} cannot enforce {}, which `{}` has: {}. To have it, {}; to run without it, type  limits = available  in the options of the backend",
                               ir::BackendName(flavour_.kind), link.endpoint.text, what, job, facts.no_limits, facts.enable_limits)};
    };
    if (!facts.limits_memory && !place.memory.empty()) return problem(place.memory, "`resources.memory`");
    if (!facts.limits_cpu && !place.cpu.empty()) return problem(place.cpu, "`resources.cpu`");
    if (!facts.limits_pids && !place.pids.empty()) return problem(place.pids, "the option `pids`");
    return {};
  }

  void Listen(Link& link) {
    if (link.endpoint.forward != nullptr) link.endpoint.forward->Revive();
    std::vector<std::pair<std::string, std::string>> query = {{"filters", Filter(true)}};
    if (link.last_event_ns > 0) query.emplace_back("since", fmt::format("{}.{:09}", link.last_event_ns / 1'000'000'000, link.last_event_ns % 1'000'000'000));
    link.lines = {};
    HttpRequest request = Request(link, "GET", ApiPath("/events", query));
    HttpHandlers handlers;
    handlers.on_head = [this, &link](const HttpHead& head) {
      link.timer->Stop();
      link.heard_ms = MonotonicMillis();
      if (head.status == 200) Heard(link);
    };
    handlers.on_data = [this, &link](std::string_view bytes) {
      link.heard_ms = MonotonicMillis();
      link.lines.Feed(bytes, [&](std::string_view line) {
        if (auto event = docker::ParseEvent(line)) OnEvent(link, *event);
      });
      return true;
    };
    handlers.on_end = [this, &link](const HttpEnd& end) { Lost(link, end.ok() ? "the connection was closed" : end.message, IsSilence(end)); };
    link.events = client_->Send(std::move(request), std::move(handlers));
    // There may be somebody who takes the connection and never says a word.
    link.timer->Start(times_.stream_ms, [this, &link] {
      client_->Cancel(std::exchange(link.events, 0));
      Lost(link, fmt::format("no answer within {} s", Seconds(times_.stream_ms)), true);
    });
  }

  /// The stream of events is there.
  void Heard(Link& link) {
    const bool was_up = link.up;
    link.up = true;
    link.backoff_ms = kFirstBackoffMs;
    if (was_up && link.down_since == 0) return;
    link.down_since = 0;
    link.mute = false;
    Answers(link);
    for (const std::string& name : std::set<std::string>(std::move(link.condemned))) Remove(link, name);
    link.condemned.clear();
    link.catching_up = true;
    // Not those that begin while the answer is on its way.
    std::vector<AttemptId> ids;
    for (auto& [id, attempt] : attempts_) {
      if (attempt.link == &link && attempt.phase >= Phase::Starting && !attempt.container.empty()) ids.push_back(id);
    }
    CatchUp(link, std::move(ids));
  }

  /// The same where the stream was never cut: only what was not answered is not known.
  void CatchUpInPart(Link& link) {
    std::vector<AttemptId> ids;
    for (auto& [id, attempt] : attempts_) {
      if (attempt.link != &link || attempt.phase < Phase::Starting || attempt.told_exit) continue;
      if (attempt.phase > Phase::Starting || attempt.may_have_begun) ids.push_back(id);
    }
    if (!link.catching_up && !ids.empty()) CatchUp(link, std::move(ids));
  }

  /// Asks how these are.
  void CatchUp(Link& link, std::vector<AttemptId> ids) {
    Ask(link, "GET", ApiPath("/containers/json", {{"all", "1"}, {"filters", Filter(false)}}), "", [this, &link, ids = std::move(ids)](const Reply& reply) mutable {
      auto list = reply.Is(200) ? docker::ParseContainers(reply.body) : std::nullopt;
      if (!list) {
        // The stream of events may end as well, and then all is asked for anew.
        if (link.up && link.catching_up) link.timer->Start(kMostBackoffMs, [this, &link, ids = std::move(ids)] { CatchUp(link, ids); });
        return;
      }
      const bool away = std::exchange(link.catching_up, false);
      TakeUp(link, ids, *list, away);
    });
  }

  /// What was missed while the engine was `away`, or did not answer.
  void TakeUp(Link& link, const std::vector<AttemptId>& ids, const std::vector<ContainerState>& list, bool away) {
    for (AttemptId id : ids) {
      auto known = attempts_.find(id);
      if (known == attempts_.end()) continue;
      Attempt& attempt = known->second;
      if (!away && attempt.told_exit) continue;
      if (attempt.phase == Phase::Starting) attempt.may_have_begun = true;
      auto found = std::find_if(list.begin(), list.end(), [&](const ContainerState& one) { return one.id == attempt.container; });
      if (attempt.told_exit) {
        if (!attempt.output_done && found != list.end()) ReadLogs(id, attempt);
        if (found == list.end()) OutputEnded(id);
      } else if (found == list.end()) {
        Fail(id, Failed(ir::ErrorKind::NodeLost, fmt::format("its container is gone from {}, so its true end is not known", link.endpoint.text)));
      } else if (found->status == "created") {
        if (!away && MonotonicMillis() - attempt.unanswered_ms < times_.request_ms) continue;  // it may be about to
        attempt.started_again = true;
        // The engine may have died between the start and its writing that down. Nothing is started twice.
        if (attempt.phase == Phase::Starting) {
          Fail(id, Failed(ir::ErrorKind::NodeLost, fmt::format("{} at {} went away while it started the container, so whether it began is not known", ir::BackendName(flavour_.kind),
                                                               link.endpoint.text)));
        }
      } else {
        if (away && !found->Lives() && !attempt.died) attempt.away = true;
        if (attempt.phase == Phase::Starting) Started(id, attempt);
        auto still = attempts_.find(id);
        if (still == attempts_.end()) continue;
        if (!still->second.output_done && still->second.output == 0) ReadLogs(id, still->second);
        if (!found->Lives()) {
          Inspect(id);
        } else if (still->second.cancelled) {
          EndIt(id, still->second);
        }
      }
    }
  }

  // -- An engine that says nothing ---------------------------------------------------

  static std::string Seconds(int64_t ms) { return ms % 1000 == 0 ? std::to_string(ms / 1000) : fmt::format("{:.1f}", static_cast<double>(ms) / 1000); }

  bool IsInUse(const Link& link) const {
    return std::any_of(attempts_.begin(), attempts_.end(), [&](const auto& one) { return one.second.link == &link; });
  }

  /// A stream without events is no sign of anything. After a while without a word the engine is asked.
  void Watch(Link& link) {
    const int64_t now = MonotonicMillis();
    if (link.up && !IsInUse(link)) link.heard_ms = now;
    const int64_t left = link.up ? link.heard_ms + times_.silence_ms - now : times_.silence_ms;
    link.watch->Start(std::max<int64_t>(left, 1), [this, &link] {
      const bool quiet = MonotonicMillis() - link.heard_ms >= times_.silence_ms;
      link.up && quiet && IsInUse(link) ? Ping(link) : Watch(link);
    });
  }

  void Ping(Link& link) {
    const int64_t sent = MonotonicMillis();
    Ask(link, "GET", "/_ping", "", [this, &link, sent](const Reply& reply) {
      // Lost() has its own way to find out.
      if (!link.up) return Watch(link);
      if (!IsInUse(link)) {
        link.silent_since = 0;
        link.unanswered = 0;
        link.told_silent = false;
      } else if (!reply.end.ok()) {
        return Unanswered(link, sent);
      } else if (link.silent_since != 0) {
        Answers(link);
        // Who was silent may have dropped the stream without a word as well. What it has told before, it tells once more.
        client_->Cancel(std::exchange(link.events, 0));
        Listen(link);
        CatchUpInPart(link);
      }
      Watch(link);
    }, times_.ping_ms);
  }

  void Unanswered(Link& link, int64_t sent) {
    const int64_t now = MonotonicMillis();
    if (link.silent_since == 0) link.silent_since = sent;
    ++link.unanswered;
    if (link.unanswered >= kMostUnanswered || now - link.silent_since >= times_.silent_ms) TellSilent(link);
    if (now - link.silent_since >= times_.silent_ms) {
      client_->Cancel(std::exchange(link.events, 0));
      Lost(link, "no answer in time", true);
      return Watch(link);
    }
    if (link.told_silent) GiveUpCancelled(link);
    link.watch->Start(sent + times_.ping_ms - now, [this, &link] { link.up ? Ping(link) : Watch(link); });
  }

  void TellSilent(Link& link) {
    if (std::exchange(link.told_silent, true)) return;
    host_.events->OnWarning(flavour_.kind, fmt::format("{} at {} has not answered for {} s, so how its containers are is not known. They may well go on: jobc waits until it answers. {}; `jobc cancel` ends the run without them",
                                                       ir::BackendName(flavour_.kind), link.endpoint.text, (MonotonicMillis() - link.heard_ms) / 1000,
                                                       flavour_.kind == ir::BackendKind::Podman ? "If its service hangs, end that and start it again"
                                                                                                : "`journalctl -u docker` may say why it hangs; who runs it can start it again"));
  }

  void Answers(Link& link) {
    if (std::exchange(link.told_silent, false)) host_.events->OnNote(flavour_.kind, fmt::format("{} at {} answers again", ir::BackendName(flavour_.kind), link.endpoint.text));
    link.silent_since = 0;
    link.unanswered = 0;
  }

  /// Whether a request failed for nobody said anything. EAGAIN: more wait on the socket already than it holds.
  static bool IsSilence(const HttpEnd& end) { return end.failure == HttpFailure::Timeout || end.os_error == EAGAIN; }

  /// Of an engine that is silent: whatever became of those that were to end, nobody wants to know it any more.
  void GiveUpCancelled(Link& link) {
    std::vector<AttemptId> ids;
    for (auto& [id, attempt] : attempts_) {
      if (attempt.link != &link) continue;
      const int64_t now = MonotonicMillis();
      // And those whose end is told: only the rest of their output is missing.
      if (attempt.told_exit ? now - link.heard_ms >= times_.patience_ms : attempt.cancelled && now - attempt.cancelled_ms >= attempt.grace_ms + times_.patience_ms) ids.push_back(id);
    }
    GiveUp(link, ids);
  }

  /// `mute`: there is somebody, who does not answer. Containers may go on there for days, and whoever finds out why it hangs starts it
  /// again; where nobody is at all, they are given up after a while.
  void Lost(Link& link, const std::string& why, bool mute = false) {
    link.timer->Stop();
    if (link.up || link.mute != mute) {
      link.down_since = MonotonicMillis();
      link.mute = mute;
    }
    if (link.up) {
      link.up = false;
      // Their output was cut, also where that looked like its end.
      for (auto& [id, attempt] : attempts_) {
        if (attempt.link != &link || attempt.phase < Phase::Running || attempt.told_exit) continue;
        if (attempt.output != 0) client_->Cancel(std::exchange(attempt.output, 0));
        attempt.output_done = false;
        attempt.asked = false;
      }
    }
    const std::string words = link.endpoint.forward != nullptr ? link.endpoint.forward->LastWords() : std::string();
    link.problem = words.empty() ? why : fmt::format("{}; ssh: {}", why, words);
    if (mute) {
      if (IsInUse(link) && MonotonicMillis() - link.heard_ms >= times_.patience_ms) TellSilent(link);
      GiveUpCancelled(link);
    } else if (MonotonicMillis() - link.down_since >= times_.patience_ms) {
      std::vector<AttemptId> ids;
      for (auto& [id, attempt] : attempts_) {
        if (attempt.link == &link && attempt.phase != Phase::Image) ids.push_back(id);
      }
      GiveUp(link, ids);
    }
    link.timer->Start(link.backoff_ms, [this, &link] { Listen(link); });
    link.backoff_ms = std::min(link.backoff_ms * 2, kMostBackoffMs);
  }

  void GiveUp(Link& link, const std::vector<AttemptId>& ids) {
    for (AttemptId id : ids) {
      auto found = attempts_.find(id);
      if (found == attempts_.end()) continue;
      const std::string engine = fmt::format("{} at {}", ir::BackendName(flavour_.kind), link.endpoint.text);
      // The run may be over before it answers.
      Note(link, fmt::format("containers of this run may still be at {}, which does not answer: they are removed when it does, by `jobc gc` if that is after the end of the run", engine));
      if (found->second.told_exit) {
        OutputEnded(id);
        continue;
      }
      const std::string silence = fmt::format("{} has not answered for {} s ({})", engine, times_.patience_ms / 1000, link.problem.empty() ? "no answer" : link.problem);
      if (found->second.collecting) {
        EndCollecting(id, found->second, Failed(ir::ErrorKind::NodeLost, silence + ", so its outputs could not be copied"));
      } else {
        Fail(id, Failed(ir::ErrorKind::NodeLost, silence + ", so its end is not known"));
      }
    }
  }

  void OnEvent(Link& link, const docker::ContainerEvent& event) {
    link.last_event_ns = std::max(link.last_event_ns, event.time_ns);
    auto known = link.by_container.find(event.id);
    if (known == link.by_container.end()) return;
    auto found = attempts_.find(known->second);
    if (found == attempts_.end()) return;
    Attempt& attempt = found->second;
    if (event.action == "oom") {
      attempt.oom = true;
    } else if (event.action == "kill") {
      attempt.killed_by = event.signal;
    } else if (event.action == "die" && attempt.phase >= Phase::Starting) {
      attempt.away = attempt.away || link.catching_up;
      Died(found->first, attempt, event.exit_code < 0 ? 255 : event.exit_code, WallMillis());
    }
  }

  // -- Images ------------------------------------------------------------------------

  void NeedImage(AttemptId id, Attempt& attempt) {
    Image& image = attempt.link->images[attempt.launch.image];
    const std::string pull = TextOption(attempt.launch, "pull");
    if (image.state == Image::State::Ready && (pull != "always" || image.pulled)) return NeedVolumes(id, attempt, 0);
    image.waiting.push_back(id);
    if (image.state == Image::State::Busy) return;
    image.state = Image::State::Busy;
    if (pull == "always") {
      Pull(*attempt.link, attempt.launch.image);
    } else {
      LookAt(*attempt.link, attempt.launch.image, pull != "never");
    }
  }

  void LookAt(Link& link, const std::string& name, bool may_pull) {
    Ask(link, "GET", "/images/" + name + "/json", "", [this, &link, name, may_pull](const Reply& reply) {
      if (reply.Is(200)) {
        auto info = docker::ParseImage(reply.body, name);
        if (!info) return ImageFailed(link, name, 500, info.error().message, Step::Image);
        Image& image = link.images[name];
        image.info = *std::move(info);
        image.state = Image::State::Ready;
        return GoOn(link, name);
      }
      if (!reply.end.ok()) return ImageFailed(link, name, 0, "", Step::Image, &reply.end);
      if (reply.status != 404 || !may_pull) {
        std::string message = docker::ErrorMessage(reply.body);
        if (reply.status == 404) message = "this machine does not have it, and `pull = never` forbids to fetch it";
        return ImageFailed(link, name, reply.status, message, Step::Image);
      }
      Pull(link, name);
    });
  }

  void Pull(Link& link, const std::string& name) {
    const docker::CredentialPlace place = docker::LookForCredentials(flavour_.kind, name, around_);
    if (!place.helper.empty()) {
      return helpers_->Ask(place, [this, &link, name](Result<std::optional<docker::Credentials>> answer) {
        if (!answer) {
          // As the tools do: without them, which is enough for what is public. If it is not, the reason stands before the failure.
          Note(link, answer.error().message);
          return PullWith(link, name, std::nullopt);
        }
        PullWith(link, name, *answer);
      });
    }
    PullWith(link, name, place.known);
  }

  void PullWith(Link& link, const std::string& name, const std::optional<docker::Credentials>& credentials) {
    Image& image = link.images[name];
    image.progress = {};
    image.lines = {};
    image.began_ms = image.told_ms = MonotonicMillis();
    host_.events->OnNote(flavour_.kind, fmt::format("pulling the image `{}`", name));
    HttpRequest request = Request(link, "POST", ApiPath("/images/create", docker::PullQuery(name)));
    if (credentials) request.headers.push_back("X-Registry-Auth: " + docker::RegistryAuth(*credentials));
    auto reply = std::make_shared<Reply>();
    HttpHandlers handlers;
    handlers.on_head = [reply](const HttpHead& head) { reply->status = head.status; };
    handlers.on_data = [this, &link, name, reply](std::string_view bytes) {
      if (reply->status != 200) {
        if (reply->body.size() < kMostAnswer) reply->body.append(bytes);
        return true;
      }
      Image& pulled = link.images[name];
      auto each = [&](std::string_view line) { pulled.progress.Feed(line); };
      pulled.lines.Feed(bytes, each);
      AwaitPull(link, name);
      const int64_t now = MonotonicMillis();
      if (now - pulled.told_ms >= kProgressMs) {
        pulled.told_ms = now;
        const std::string far = pulled.progress.Said();
        host_.events->OnNote(flavour_.kind, fmt::format("pulling the image `{}`: {}after {} s", name, far.empty() ? "" : far + " ", (now - pulled.began_ms) / 1000));
      }
      return true;
    };
    handlers.on_end = [this, &link, name, reply](const HttpEnd& end) {
      Image& pulled = link.images[name];
      pulled.stall.reset();
      if (!end.ok()) return ImageFailed(link, name, 0, "", Step::Pull, &end);
      if (reply->status != 200) return ImageFailed(link, name, reply->status, docker::ErrorMessage(reply->body), Step::Pull);
      pulled.progress.Feed(pulled.lines.rest());
      if (!pulled.progress.error().empty()) return ImageFailed(link, name, 0, pulled.progress.error(), pulled.progress.HasBegun() ? Step::Layers : Step::Pull);
      pulled.pulled = true;
      host_.events->OnNote(flavour_.kind, fmt::format("pulled the image `{}` in {:.1f} s", name, static_cast<double>(MonotonicMillis() - pulled.began_ms) / 1000));
      LookAt(link, name, false);
    };
    image.request = client_->Send(std::move(request), std::move(handlers));
    image.stall = std::make_unique<Timer>(host_.loop);
    AwaitPull(link, name);
  }

  /// A registry may take a connection and never say a word, and an engine waits for it as long as it is asked to.
  void AwaitPull(Link& link, const std::string& name) {
    Image& image = link.images[name];
    // Engines are quiet while they unpack what has come, podman for all of it.
    const bool unpacks = image.progress.IsHere();
    const int64_t limit = unpacks ? times_.unpack_ms : times_.pull_ms;
    image.stall->Start(limit, [this, &link, name, unpacks, limit] {
      Image& now = link.images[name];
      client_->Cancel(std::exchange(now.request, 0));
      now.stall.reset();
      if (!link.up || link.told_silent) {
        const HttpEnd silence{HttpFailure::Timeout, "no answer in time", 0};
        return ImageFailed(link, name, 0, "", Step::Pull, &silence);
      }
      const std::string far = now.progress.Said(), seconds = Seconds(limit);
      ImageFailed(link, name, 0, unpacks ? fmt::format("all of it has come, and the engine has said nothing for {} s while it unpacks it", seconds)
                                         : fmt::format("nothing more of it has come for {} s{}: its registry hangs, or what lies between that and the engine", seconds, far.empty() ? "" : " after " + far), Step::Pull);
    });
  }

  void GoOn(Link& link, const std::string& name) {
    std::vector<AttemptId> waiting;
    waiting.swap(link.images[name].waiting);
    for (AttemptId id : waiting) {
      if (auto found = attempts_.find(id); found != attempts_.end() && !found->second.failing) NeedImage(id, found->second);
    }
  }

  void ImageFailed(Link& link, const std::string& name, int status, const std::string& message, Step step, const HttpEnd* end = nullptr) {
    Image& image = link.images[name];
    image.state = Image::State::Unknown;
    std::vector<AttemptId> waiting;
    waiting.swap(image.waiting);
    for (AttemptId id : waiting) {
      auto found = attempts_.find(id);
      if (found == attempts_.end() || found->second.failing) continue;
      Fail(id, end != nullptr ? docker::UnreachableVerdict(flavour_, link.endpoint.text, end->message) : docker::FailureOf(step, status, message, found->second.launch, flavour_));
    }
  }

  // -- One container -----------------------------------------------------------------

  /// The user that is asked for; empty: the image's.
  std::string UserFor(const Attempt& attempt) const {
    std::string user = TextOption(attempt.launch, "user");
    if (!user.empty()) return user;
    if (attempt.link->facts.rootless) return "0:0";  // which is the user of the engine, outside
    if (around_.uid != 0) return fmt::format("{}:{}", around_.uid, getegid());
    return "";
  }

  /// Volumes that a mount names, from the `next` on: an engine would make an empty one of each name that was mistyped.
  void NeedVolumes(AttemptId id, Attempt& attempt, size_t next) {
    const ir::Value* option = Option(attempt.launch, "mounts");
    const std::vector<ir::Mount> mounts = option == nullptr ? std::vector<ir::Mount>() : ir::MountsOf(*option);
    while (next < mounts.size() && !mounts[next].volume) ++next;
    if (next == mounts.size()) return Create(id, attempt);
    const ir::Mount mount = mounts[next];
    AskFor(id, "GET", "/volumes/" + mount.source, "", [this, id, mount, next](Attempt& now, const Reply& reply) {
      if (now.failing) return;
      if (reply.Is(200)) return NeedVolumes(id, now, next + 1);
      if (!reply.end.ok()) return Fail(id, docker::UnreachableVerdict(flavour_, now.link->endpoint.text, reply.end.message));
      if (reply.status != 404) return Fail(id, docker::FailureOf(Step::Create, reply.status, docker::ErrorMessage(reply.body), now.launch, flavour_));
      if (!mount.create) {
        return Fail(id, Failed(ir::ErrorKind::Staging, fmt::format("the mount `{0}` needs the volume `{1}`, which {2} at {3} does not have. Type  {2} volume create {1}  or write `create = true` beside it",
                                                                   mount.name, mount.source, ir::BackendName(flavour_.kind), now.link->endpoint.text)));
      }
      AskFor(id, "POST", "/volumes/create", docker::VolumeBody(mount.source, host_.run_id, state_label_), [this, id, next](Attempt& made, const Reply& answer) {
        if (made.failing) return;
        if (answer.Is(200)) return NeedVolumes(id, made, next + 1);
        Fail(id, answer.end.ok() ? docker::FailureOf(Step::Create, answer.status, docker::ErrorMessage(answer.body), made.launch, flavour_)
                                 : docker::UnreachableVerdict(flavour_, made.link->endpoint.text, answer.end.message));
      });
    });
  }

  void Create(AttemptId id, Attempt& attempt) {
    Link& link = *attempt.link;
    if (!flavour_.looks_at_sources && link.sees == Link::Sees::Unknown) {
      // It would make an empty directory of each that it does not see: one container is enough to find out.
      if (link.prober != 0 && link.prober != id) {
        link.unsure.push_back(id);
        return;
      }
      link.prober = id;
    }
    if (const std::string missing = MissingMount(attempt); !missing.empty()) {
      return Fail(id, Failed(ir::ErrorKind::Staging, fmt::format("there is no `{}`, which `mounts` names", missing)));
    }
    const Image& image = link.images[attempt.launch.image];
    attempt.handle.clear();
    docker::ContainerPlan plan;
    plan.launch = &attempt.launch;
    plan.image = &image.info;
    plan.run_id = host_.run_id;
    plan.state = state_label_;
    plan.user = UserFor(attempt);
    attempt.copied = plan.copied = link.sees == Link::Sees::No;
    if (attempt.copied && !attempt.launch.places.secrets_dir.empty()) {
      Verdict verdict = Failed(ir::ErrorKind::Staging, fmt::format("{} at {} does not see this machine's files, and secret files are never copied: they would come to lie on its disk. Give the secret in `env`, or run the job here",
                                                                   ir::BackendName(flavour_.kind), link.endpoint.text));
      verdict.no_retry = true;
      return Fail(id, std::move(verdict));
    }
    const bool asks_for_user = !TextOption(attempt.launch, "user").empty();
    if (link.facts.remapped) plan.userns = "host";
    if (link.facts.rootless && asks_for_user) {
      // Whoever the job is inside, outside it is the user of the engine, to whom outputs belong.
      const auto ids = docker::IsNumericUser(plan.user) ? docker::IdsOf(plan.user, "") : std::nullopt;
      if (!ids) {
        return Fail(id, Failed(ir::ErrorKind::Submit, fmt::format("the option `user` names `{}`: a rootless engine needs numbers, as in  user = \"1000:1000\"", plan.user)));
      }
      const int64_t gid = plan.user.find(':') == std::string::npos ? ids->uid : ids->gid;
      if (ids->uid != 0 && !link.facts.keeps_ids) {
        return Fail(id, Failed(ir::ErrorKind::Submit, fmt::format("the option `user` names `{}`: files of that user would not be yours, as this engine is rootless; leave it out, or use `podman`", plan.user)));
      }
      plan.user = fmt::format("{}:{}", ids->uid, gid);
      if (ids->uid != 0) plan.userns = fmt::format("keep-id:uid={},gid={}", ids->uid, gid);
    }
    plan.no_memory = !link.facts.limits_memory;
    plan.no_cpu = !link.facts.limits_cpu;
    plan.no_pids = !link.facts.limits_pids;
    auto left_out = [&](bool lacking, bool asked, const char* what) {
      if (lacking && asked) Note(link, fmt::format("{} is not enforced by {}: {}", what, ir::BackendName(flavour_.kind), link.facts.no_limits));
    };
    left_out(plan.no_memory, attempt.launch.resources.memory.has_value(), "`resources.memory`");
    left_out(plan.no_cpu, attempt.launch.resources.cpu_milli.has_value(), "`resources.cpu`");
    left_out(plan.no_pids, Option(attempt.launch, "pids") != nullptr, "the option `pids`");
    if (around_.uid != 0 && !link.facts.rootless && TextOption(attempt.launch, "user").empty()) {
      std::array<gid_t, 256> groups;
      const int count = getgroups(static_cast<int>(groups.size()), groups.data());
      for (int i = 0; i < count; ++i) plan.groups.push_back(std::to_string(groups[static_cast<size_t>(i)]));
    }
    const ir::Value* init = Option(attempt.launch, "init");
    if (init == nullptr || init->kind() != ir::ValueKind::Bool || init->as_bool()) {
      std::vector<std::string> words = attempt.launch.argv;
      if (attempt.launch.image_args) {
        words = image.info.entrypoint;
        const std::vector<std::string>& rest = attempt.launch.argv.empty() ? image.info.cmd : attempt.launch.argv;
        words.insert(words.end(), rest.begin(), rest.end());
      }
      if (words.empty()) return Fail(id, Failed(ir::ErrorKind::Command, fmt::format("the image `{}` has neither ENTRYPOINT nor CMD, and the job names no command", attempt.launch.image)));
      plan.command = container::InitCommand(attempt.launch, words);
      plan.mounts.push_back({init_, std::string(container::kInitTarget), true});
    }
    if (attempt.launch.resources.gpu.value_or(0) > 0) {
      if (!flavour_.has_gpus) return Fail(id, Failed(ir::ErrorKind::Submit, "podman's service gives no graphics processors by this API: use `docker`, or name the device in `options`"));
      TakeGpus(attempt);
      plan.gpus = attempt.gpus;
    }
    auto body = docker::CreateBody(plan, flavour_);
    if (!body) return Fail(id, Failed(ir::ErrorKind::Submit, body.error().message));
    attempt.phase = Phase::Creating;
    AskFor(id, "POST", ApiPath("/containers/create", {{"name", docker::ContainerName(attempt.launch.execution_id)}}), *std::move(body), [this, id](Attempt& now, const Reply& reply) {
      Link& at = *now.link;
      if (!reply.end.ok()) {
        // It may be there all the same; a repeated submission finds it by its name.
        at.condemned.insert(docker::ContainerName(now.launch.execution_id));
        return Fail(id, docker::UnreachableVerdict(flavour_, at.endpoint.text, reply.end.message));
      }
      if (auto created = reply.status == 201 ? docker::ParseCreated(reply.body) : std::nullopt) {
        for (const std::string& warning : created->warnings) {
          if (warning.find("kernel does not support") != std::string::npos || warning.find("iscarded") != std::string::npos) Note(at, warning);
        }
        if (at.sees == Link::Sees::Unknown && flavour_.looks_at_sources) at.sees = Link::Sees::Yes;
        return Have(id, now, created->id);
      }
      const std::string message = docker::ErrorMessage(reply.body);
      if (IsElsewhere(now, message)) return Create(id, now);
      if (docker::IsNameTaken(reply.status, message)) return TakeOver(id, now);
      if (reply.status == 404) at.images[now.launch.image].state = Image::State::Unknown;  // removed meanwhile
      Fail(id, Refusal(now, Step::Create, reply.status, message));
    });
  }

  /// The source of a mount that is not there, where the engine would not mind; empty: there is none, or the engine looks.
  std::string MissingMount(const Attempt& attempt) const {
    const ir::Value* option = Option(attempt.launch, "mounts");
    if (flavour_.looks_at_sources || attempt.link->sees != Link::Sees::Yes || option == nullptr) return "";
    struct stat info;
    for (const ir::Mount& one : ir::MountsOf(*option)) {
      if (!one.volume && stat(one.source.c_str(), &info) != 0 && errno == ENOENT) return one.source;
    }
    return "";
  }

  /// Whether the engine sees this machine's files is known now.
  void Known(Link& link, bool sees) {
    link.prober = 0;
    link.sees = sees ? Link::Sees::Yes : Link::Sees::No;
    if (!sees) host_.events->OnNote(flavour_.kind, fmt::format("{} at {} does not see this machine's files: inputs and outputs are copied", ir::BackendName(flavour_.kind), link.endpoint.text));
    Sure(link);
  }

  /// Those that waited for it go on, or one of them finds out.
  void Sure(Link& link) {
    for (AttemptId id : std::exchange(link.unsure, {})) {
      Soon([this, id] {
        if (auto found = attempts_.find(id); found != attempts_.end() && !found->second.failing && found->second.phase == Phase::Image) Create(id, found->second);
      });
    }
  }

  /// By a file that nothing else has made.
  void Probe(AttemptId id, Attempt& attempt) {
    const std::string name = "seen-" + attempt.launch.execution_id, path = attempt.launch.places.stage_dir + "/" + name;
    if (process::UniqueFd made(open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600)); made.get() < 0) {
      return Fail(id, Failed(ir::ErrorKind::Staging, process::SystemError(fmt::format("cannot write `{}`", path), errno).message));
    }
    AskFor(id, "HEAD", ApiPath("/containers/" + attempt.container + "/archive", {{"path", attempt.launch.places.SeenStage() + "/" + name}}), "", [this, id, path](Attempt& now, const Reply& reply) {
      (void)unlink(path.c_str());
      if (!reply.end.ok()) return Fail(id, docker::UnreachableVerdict(flavour_, now.link->endpoint.text, reply.end.message));
      Known(*now.link, reply.status != 404);
      if (reply.status == 404) return MakeAnew(id, now);
      Have(id, now, now.container);
    });
  }

  /// Whether a refusal tells that this machine's files cannot be seen there: directories of an attempt are new, and named like
  /// no other, so that they are not there by chance. Then all attempts at this engine have theirs copied.
  bool IsElsewhere(Attempt& attempt, const std::string& message) {
    Link& link = *attempt.link;
    const std::string missing = docker::MissingSource(message);
    if (attempt.copied || link.sees == Link::Sees::Yes || missing.empty()) return false;
    struct stat info;
    const auto& mounts = attempt.launch.mounts;
    if (std::none_of(mounts.begin(), mounts.end(), [&](const Mount& one) { return one.source == missing; }) && missing != init_) return false;
    if (lstat(missing.c_str(), &info) != 0) return false;
    if (link.sees != Link::Sees::No) Known(link, false);
    return true;
  }

  Verdict Refusal(const Attempt& attempt, Step step, int status, const std::string& message) const {
    const std::string missing = docker::MissingSource(message);
    if (attempt.copied && !missing.empty()) {
      return Failed(ir::ErrorKind::Staging, fmt::format("there is no `{}` on the machine of {} at {}, which does not see the files of this one: the sources of `mounts` are its own. Files of this machine are given to a job as inputs",
                                                        missing, ir::BackendName(flavour_.kind), attempt.link->endpoint.text));
    }
    return docker::FailureOf(step, status, message, attempt.launch, flavour_);
  }

  /// Once more, with its files copied. The name is free when the first one is gone.
  void MakeAnew(AttemptId id, Attempt& attempt) {
    attempt.link->by_container.erase(attempt.container);
    attempt.phase = Phase::Creating;
    AskFor(id, "DELETE", ApiPath("/containers/" + std::exchange(attempt.container, ""), {{"force", "1"}, {"v", "1"}}), "", [this, id](Attempt& now, const Reply& reply) {
      if (!reply.end.ok()) {
        now.link->condemned.insert(docker::ContainerName(now.launch.execution_id));
        return Fail(id, docker::UnreachableVerdict(flavour_, now.link->endpoint.text, reply.end.message));
      }
      if (now.cancelled) return Fail(id, Failed(ir::ErrorKind::Cancelled, "it was cancelled before its container began"));
      Create(id, now);
    });
  }

  void TakeGpus(Attempt& attempt) {
    const ir::Value* named = Option(attempt.launch, "gpus");
    if (named == nullptr || named->kind() != ir::ValueKind::List) return;
    const auto wanted = static_cast<size_t>(*attempt.launch.resources.gpu);
    for (const bool free : {true, false}) {  // shared only if there are too few
      for (const ir::Value& one : named->as_list()) {
        if (attempt.gpus.size() >= wanted) return;
        const std::string& name = one.as_string();
        if (std::find(attempt.gpus.begin(), attempt.gpus.end(), name) != attempt.gpus.end() || (free && attempt.link->gpus.count(name) != 0)) continue;
        attempt.gpus.push_back(name);
        attempt.link->gpus.insert(name);
      }
    }
  }

  /// A container of that name is there: of an earlier submission, which was not answered.
  void TakeOver(AttemptId id, Attempt& attempt) {
    AskFor(id, "GET", "/containers/" + docker::ContainerName(attempt.launch.execution_id) + "/json", "", [this, id](Attempt& now, const Reply& reply) {
      auto state = reply.Is(200) ? docker::ParseContainer(reply.body) : std::nullopt;
      if (!state || state->run != host_.run_id || state->attempt != now.launch.execution_id) {
        return Fail(id, Failed(ir::ErrorKind::Submit, fmt::format("the name `{}` is taken at {} by a container that is not of this attempt", docker::ContainerName(now.launch.execution_id),
                                                                  now.link->endpoint.text)));
      }
      now.copied = state->copied;
      if (!state->Lives() && !state->Ended()) return Have(id, now, state->id);
      GoOnWith(id, now, *state);
    });
  }

  /// It has begun, unseen; perhaps it has ended.
  void GoOnWith(AttemptId id, Attempt& attempt, const ContainerState& state) {
    if (attempt.link->prober == id) Known(*attempt.link, !state.copied);  // as was found out then
    Know(id, attempt, state.id);
    attempt.copied = state.copied;
    attempt.phase = Phase::Starting;
    attempt.started_ms = state.started_ms;
    attempt.from_log = true;
    Started(id, attempt);
    auto found = attempts_.find(id);
    if (found == attempts_.end()) return;
    attempt.oom = attempt.oom || state.oom;
    if (state.Ended()) return Died(id, attempt, state.exit_code, state.finished_ms);  // then its log is whole
    ReadLogs(id, attempt);
  }

  void Unattached(AttemptId id, AttachAnswer answer, const std::string& why) {
    if (attempts_.count(id) == 0) return;
    Forget(id);
    host_.events->OnAttached(id, answer, why);
  }

  void Know(AttemptId id, Attempt& attempt, const std::string& container) {
    attempt.container = container;
    if (attempt.handle.empty()) attempt.handle = container + " " + attempt.link->images[attempt.launch.image].info.digest;
    attempt.link->by_container[container] = id;
    attempt.link->condemned.erase(docker::ContainerName(attempt.launch.execution_id));
    if (attempt.link->prober == id) return;  // it may be made anew, and be another one then
    if (!std::exchange(attempt.told_submitted, true)) host_.events->OnSubmitted(id, attempt.handle);
  }

  /// There is a container, and it has not begun.
  void Have(AttemptId id, Attempt& attempt, const std::string& container) {
    Know(id, attempt, container);
    attempt.phase = Phase::Created;
    if (attempt.cancelled) return Fail(id, Failed(ir::ErrorKind::Cancelled, "it was cancelled before its container began"));
    if (attempt.link->prober == id) return Probe(id, attempt);
    Image& image = attempt.link->images[attempt.launch.image];
    const std::string asked = UserFor(attempt);
    const std::string user = asked.empty() ? image.info.user : asked;
    if (!attempt.copied && (attempt.link->facts.rootless || (around_.uid != 0 && TextOption(attempt.launch, "user").empty()))) return Connect(id, attempt);
    if (docker::IsNumericUser(user) || user == "root" || user.starts_with("root:") || image.passwd) return GiveTo(id, attempt, user);
    AskFor(id, "GET", ApiPath("/containers/" + container + "/archive", {{"path", "/etc/passwd"}}), "", [this, id, user](Attempt& now, const Reply& reply) {
      now.link->images[now.launch.image].passwd = reply.Is(200) ? docker::FirstFileOfTar(reply.body) : "";
      GiveTo(id, now, user);
    });
  }

  /// The directories of the attempt are for `user` of the image.
  void GiveTo(AttemptId id, Attempt& attempt, const std::string& user) {
    const auto ids = docker::IdsOf(user, attempt.link->images[attempt.launch.image].passwd.value_or(""));
    const AttemptPlaces& places = attempt.launch.places;
    if (!ids) {
      return Fail(id, Failed(ir::ErrorKind::Image, fmt::format("the image `{}` has no user `{}` in /etc/passwd", attempt.launch.image, user)));
    }
    if (attempt.copied) return SendFiles(id, attempt, ids->uid, ids->gid);
    if (ids->uid != static_cast<int64_t>(around_.uid)) {
      if (around_.uid == 0) {
        attempt.chown = true;
        for (const std::string& path : {places.output_dir, places.tmp_dir, places.stage_dir, places.secrets_dir}) {
          const int problem = path.empty() ? 0 : ChownTree(path, static_cast<uid_t>(ids->uid), static_cast<gid_t>(ids->gid));
          if (problem != 0) return Fail(id, Failed(ir::ErrorKind::Staging, process::SystemError(fmt::format("cannot give `{}` to user {} of the image", path, ids->uid), problem).message));
        }
      } else if (ids->uid != 0) {
        OpenToAll(places.output_dir, true);
        OpenToAll(places.tmp_dir, true);
        OpenToAll(places.stage_dir, true);
        if (!places.secrets_dir.empty()) OpenToAll(places.secrets_dir, false);
      }
    }
    Connect(id, attempt);
  }

  /// The output first, so that none of it is missed.
  void Connect(AttemptId id, Attempt& attempt) {
    HttpRequest request = Request(*attempt.link, "POST", ApiPath("/containers/" + attempt.container + "/attach", {{"stream", "1"}, {"stdout", "1"}, {"stderr", "1"}}));
    auto status = std::make_shared<int>(0);
    auto refusal = std::make_shared<std::string>();
    HttpHandlers handlers;
    handlers.on_head = [this, id, status](const HttpHead& head) {
      *status = head.status;
      auto found = attempts_.find(id);
      if (found == attempts_.end() || found->second.phase != Phase::Created || (head.status != 200 && head.status != 101)) return;
      if (found->second.cancelled) return Soon([this, id] { Fail(id, Failed(ir::ErrorKind::Cancelled, "it was cancelled before its container began")); });
      Start(id, found->second);
    };
    handlers.on_data = [this, id, status, refusal](std::string_view bytes) {
      if (*status == 200 || *status == 101) {
        TakeOutput(id, bytes);
      } else if (refusal->size() < 65536) {
        refusal->append(bytes);
      }
      return true;
    };
    handlers.on_end = [this, id, status, refusal](const HttpEnd& end) {
      auto found = attempts_.find(id);
      if (found == attempts_.end()) return;
      Attempt& now = found->second;
      now.output = 0;
      if (now.phase == Phase::Created) {
        // podman makes ready here what docker does at the start, so it finds here that the command is missing.
        const std::string message = docker::ErrorMessage(*refusal);
        if (end.ok() && IsElsewhere(now, message)) return MakeAnew(id, now);
        return Fail(id, end.ok() ? Refusal(now, Step::Start, *status, message)
                                 : docker::UnreachableVerdict(flavour_, now.link->endpoint.text, end.message));
      }
      OutputStops(id, now, end);
    };
    attempt.output = client_->Send(std::move(request), std::move(handlers));
  }

  void Start(AttemptId id, Attempt& attempt) {
    attempt.phase = Phase::Starting;
    attempt.started_ms = WallMillis();
    AskFor(id, "POST", "/containers/" + attempt.container + "/start", "", [this, id](Attempt& now, const Reply& reply) {
      if (now.phase != Phase::Starting) return;
      if (!reply.end.ok()) {
        now.may_have_begun = true;
        now.unanswered_ms = MonotonicMillis();
        return AskAgain(id);
      }
      if (reply.status == 204 || reply.status == 304) return Started(id, now);
      if (now.started_again) {
        // Half of it may be there: the engine takes such a container for neither begun nor new.
        return Fail(id, Failed(ir::ErrorKind::NodeLost, fmt::format("{} at {} went away while it was starting it, and then refused to: {}", ir::BackendName(flavour_.kind), now.link->endpoint.text,
                                                                    docker::ErrorMessage(reply.body))));
      }
      Fail(id, Refusal(now, Step::Start, reply.status, docker::ErrorMessage(reply.body)));
    });
  }

  /// The start was not answered: if the stream of events was not cut, nobody else asks what became of it.
  void AskAgain(AttemptId id) {
    Later(id, &Attempt::again, times_.ping_ms, [this, id](Attempt& now) {
      if (now.phase != Phase::Starting) return;
      if (now.link->up && now.link->silent_since == 0) CatchUpInPart(*now.link);
      AskAgain(id);
    });
  }

  // -- Files that are copied ---------------------------------------------------------

  /// `run` in a thread, then `then` here if nobody has given it up.
  void InThread(const std::shared_ptr<Transfer>& transfer, std::function<void(Transfer&)> run, std::function<void()> then) {
    struct Work {
      uv_work_t request;
      std::shared_ptr<Transfer> transfer;
      std::function<void(Transfer&)> run;
    };
    transfer->busy = true;
    transfer->then = std::move(then);
    auto* work = new Work{{}, transfer, std::move(run)};
    work->request.data = work;
    const int queued = uv_queue_work(host_.loop, &work->request, [](uv_work_t* request) {
      Work* self = static_cast<Work*>(request->data);
      self->run(*self->transfer);
    }, [](uv_work_t* request, int) {
      std::unique_ptr<Work> self(static_cast<Work*>(request->data));
      self->transfer->busy = false;
      auto next = std::exchange(self->transfer->then, nullptr);
      if (!self->transfer->dropped) next();
    });
    if (queued == 0) return;
    // No thread: here, then.
    work->run(*transfer);
    delete work;
    transfer->busy = false;
    Soon([transfer] {
      auto next = std::exchange(transfer->then, nullptr);
      if (!transfer->dropped) next();
    });
  }

  void Drop(Attempt& attempt) {
    if (attempt.transfer == nullptr) return;
    attempt.transfer->dropped = true;
    if (client_ != nullptr && attempt.transfer->http != 0) client_->Cancel(attempt.transfer->http);
    attempt.transfer.reset();
  }

  /// Everything that is a mount elsewhere, below kPlacesRoot.
  void SendFiles(AttemptId id, Attempt& attempt, int64_t uid, int64_t gid) {
    std::vector<docker::TarTree> trees;
    auto add = [&](const Mount& mount, bool program) { trees.push_back({mount.source, mount.target.substr(docker::kPlacesRoot.size() + 1), mount.read_only, program}); };
    for (const Mount& mount : attempt.launch.mounts) add(mount, false);
    add({init_, std::string(container::kInitTarget), true}, true);
    Drop(attempt);
    auto transfer = attempt.transfer = std::make_shared<Transfer>();
    transfer->maker.emplace(std::move(trees), uid, gid);
    HttpRequest request = Request(*attempt.link, "PUT", ApiPath("/containers/" + attempt.container + "/archive", {{"path", std::string(docker::kPlacesRoot)}}));
    request.headers = {"Content-Type: application/x-tar", "Expect:"};
    request.stall_ms = kStallMs;
    request.read = [this, transfer](char* into, size_t size) -> size_t {
      if (transfer->busy) return kHttpReadLater;
      if (transfer->sent < transfer->bytes.size()) {
        const size_t count = std::min(size, transfer->bytes.size() - transfer->sent);
        transfer->bytes.copy(into, count, transfer->sent);
        transfer->sent += count;
        return count;
      }
      if (transfer->problem) return kHttpReadFailed;
      if (transfer->last) return 0;
      InThread(transfer, [](Transfer& now) {
        now.bytes.resize(kPiece);
        now.sent = 0;
        const auto count = now.maker->Read(now.bytes.data(), now.bytes.size());
        now.bytes.resize(count ? *count : 0);
        if (!count) now.problem = count.error();
        now.last = now.bytes.empty();
      }, [this, transfer] { client_->Resume(transfer->http); });
      return kHttpReadLater;
    };
    HttpHandlers handlers;
    handlers.on_head = [transfer](const HttpHead& head) { transfer->status = head.status; };
    handlers.on_data = [transfer](std::string_view bytes) {
      if (transfer->refusal.size() < 65536) transfer->refusal.append(bytes);
      return true;
    };
    handlers.on_end = [this, id, transfer](const HttpEnd& end) {
      transfer->http = 0;
      auto found = attempts_.find(id);
      if (transfer->dropped || found == attempts_.end()) return;
      Attempt& now = found->second;
      const std::shared_ptr<Transfer> done = now.transfer;
      Drop(now);
      if (!done->busy && done->problem) return Fail(id, Failed(ir::ErrorKind::Staging, "its files cannot be copied to the engine: " + done->problem->message));
      if (done->status == 0 || (!end.ok() && done->status == 200)) return Fail(id, docker::UnreachableVerdict(flavour_, now.link->endpoint.text, "while files were copied there: " + end.message));
      if (done->status != 200) {
        const std::string message = docker::ErrorMessage(done->refusal);
        Verdict verdict = docker::FailureOf(Step::Create, done->status, message, now.launch, flavour_);
        if (verdict.kind == ir::ErrorKind::Submit) verdict = Failed(ir::ErrorKind::Staging, fmt::format("its files cannot be copied into the container: {}", message));
        return Fail(id, std::move(verdict));
      }
      if (now.cancelled) return Fail(id, Failed(ir::ErrorKind::Cancelled, "it was cancelled before its container began"));
      Connect(id, now);
    };
    transfer->http = client_->Send(std::move(request), std::move(handlers));
  }

  /// What is copied back, in this order: how it ended, the result, the outputs.
  struct Part {
    std::string path;  ///< in the container
    std::string into;  ///< directory of this machine
    std::string only;  ///< a file of this name; empty: a whole directory
  };
  static std::array<Part, 3> Parts(const Attempt& attempt) {
    const AttemptPlaces& places = attempt.launch.places;
    const std::string end(container::kEndName);
    return {{{places.SeenStage() + "/" + end, places.stage_dir, end}, {places.SeenStage() + "/result.json", places.stage_dir, "result.json"}, {places.SeenOutput(), places.output_dir, ""}}};
  }

  void Collect(AttemptId id, Attempt& attempt) {
    if (!std::exchange(attempt.collecting, true)) {
      host_.events->OnCollecting(id);
      if (attempts_.count(id) == 0) return;
    }
    const auto parts = Parts(attempt);
    if (attempt.collected == parts.size()) return EndCollecting(id, attempt, std::nullopt);
    const Part part = parts[attempt.collected];
    Drop(attempt);
    auto transfer = attempt.transfer = std::make_shared<Transfer>();
    if (part.only.empty()) {
      transfer->taker.emplace(part.into);
    } else {
      transfer->taker.emplace(part.into, part.only);
    }
    // Without what an earlier try, or jobc, left.
    InThread(transfer, [part](Transfer& now) {
      std::error_code error;
      if (!part.only.empty()) {
        std::filesystem::remove(part.into + "/" + part.only, error);
        if (auto made = process::MakeDirectories(part.into); !made) now.problem = made.error();
      } else if (auto removed = process::RemoveTree(part.into); !removed) {
        now.problem = removed.error();
      } else if (auto made = process::MakeDirectories(part.into); !made) {
        now.problem = made.error();
      }
    }, [this, id, part] { Fetch(id, part); });
  }

  void Fetch(AttemptId id, const Part& part) {
    Attempt& attempt = attempts_.at(id);
    auto transfer = attempt.transfer;
    if (transfer->problem) return Fetched(id, part, {});
    HttpRequest request = Request(*attempt.link, "GET", ApiPath("/containers/" + attempt.container + "/archive", {{"path", part.path}}));
    request.stall_ms = kStallMs;
    HttpHandlers handlers;
    handlers.on_head = [transfer](const HttpHead& head) { transfer->status = head.status; };
    handlers.on_data = [this, id, part, transfer](std::string_view bytes) {
      if (transfer->status != 200) {
        if (transfer->refusal.size() < 65536) transfer->refusal.append(bytes);
        return true;
      }
      transfer->bytes.append(bytes);
      if (transfer->bytes.size() < kPiece) return true;
      InThread(transfer, TakeIn, [this, id, part, transfer] {
        if (!transfer->problem) return client_->Resume(transfer->http);
        // It cannot be written here: the rest need not come.
        client_->Cancel(std::exchange(transfer->http, 0));
        Fetched(id, part, {});
      });
      return false;
    };
    handlers.on_end = [this, id, part, transfer](const HttpEnd& end) {
      transfer->http = 0;
      if (transfer->dropped || attempts_.count(id) == 0) return;
      // A connection that is cut is told of also while the thread is at work: what it does then is done again.
      if (!end.ok() || transfer->status != 200) return Fetched(id, part, end);
      transfer->last = true;
      InThread(transfer, TakeIn, [this, id, part] { Fetched(id, part, {}); });
    };
    transfer->http = client_->Send(std::move(request), std::move(handlers));
  }

  static void TakeIn(Transfer& now) {
    if (auto fed = now.taker->Feed(now.bytes); !fed) now.problem = fed.error();
    now.bytes.clear();
    if (!now.last || now.problem) return;
    if (auto ended = now.taker->End(); !ended) now.problem = ended.error();
  }

  void Fetched(AttemptId id, const Part& part, const HttpEnd& end) {
    Attempt& attempt = attempts_.at(id);
    const std::shared_ptr<Transfer> transfer = attempt.transfer;
    if (transfer->busy) {
      // The directory is not free before the thread has ended.
      transfer->then = [this, id, part, end] { Fetched(id, part, end); };
      return;
    }
    Drop(attempt);
    if (transfer->problem) {
      return EndCollecting(id, attempt, Failed(ir::ErrorKind::Staging, fmt::format("what the job left at {} cannot be copied to this machine: {}", part.path, transfer->problem->message)));
    }
    if (end.ok() && transfer->status == 200) {
      ++attempt.collected;
      attempt.tries = 0;
      return Collect(id, attempt);
    }
    const std::string why = end.ok() ? docker::ErrorMessage(transfer->refusal) : end.message;
    if (end.ok() && transfer->status == 404) {
      if (why.find("o such container") != std::string::npos || why.find("no container with") != std::string::npos) {
        return EndCollecting(id, attempt, Failed(ir::ErrorKind::NodeLost, fmt::format("its container was removed from {} before its outputs were copied", attempt.link->endpoint.text)));
      }
      ++attempt.collected;  // the program has not written it
      return Collect(id, attempt);
    }
    if (attempt.link->up && ++attempt.tries >= kMostTries) {
      return EndCollecting(id, attempt, Failed(end.ok() ? ir::ErrorKind::Staging : ir::ErrorKind::Network, fmt::format("what the job left at {} cannot be copied from {}: {}", part.path, attempt.link->endpoint.text, why)));
    }
    Later(id, &Attempt::again, 500, [this, id](Attempt& now) { Collect(id, now); });
  }

  void EndCollecting(AttemptId id, Attempt& attempt, std::optional<Verdict> problem) {
    if (attempt.clearing) return;
    attempt.again.reset();
    attempt.problem = std::move(problem);
    if (!attempt.problem) {
      attempt.collecting = false;
      return TellExit(id, attempt);
    }
    attempt.clearing = true;
    if (attempt.transfer != nullptr && attempt.transfer->busy) {
      // It writes: what it leaves can be removed when it is done.
      client_->Cancel(std::exchange(attempt.transfer->http, 0));
      attempt.transfer->then = [this, id] { ClearHalf(id); };
      return;
    }
    ClearHalf(id);
  }

  /// Nobody takes half of the outputs for all of them.
  void ClearHalf(AttemptId id) {
    Attempt& attempt = attempts_.at(id);
    Drop(attempt);
    attempt.transfer = std::make_shared<Transfer>();
    InThread(attempt.transfer, [part = Parts(attempt)[attempt.collected]](Transfer&) {
      std::error_code error;
      if (!part.only.empty()) {
        std::filesystem::remove(part.into + "/" + part.only, error);
      } else if (process::RemoveTree(part.into).ok()) {
        (void)process::MakeDirectories(part.into).ok();
      }
    }, [this, id] {
      Attempt& now = attempts_.at(id);
      Drop(now);
      now.collecting = false;
      TellExit(id, now);
    });
  }

  void Started(AttemptId id, Attempt& attempt) {
    attempt.phase = Phase::Running;
    if (attempt.started_ms == 0) attempt.started_ms = WallMillis();
    if (!std::exchange(attempt.told_started, true)) host_.events->OnStarted(id, attempt.started_ms, 0, attempt.handle);
    auto found = attempts_.find(id);
    if (found == attempts_.end()) return;
    if (attempt.cancelled) EndIt(id, attempt);
    if (attempt.died) {
      AfterDeath(id, attempt);
    } else if (attempt.output_done && flavour_.slow_events) {
      Inspect(id);
    }
  }

  // -- Its output --------------------------------------------------------------------

  void TakeOutput(AttemptId id, std::string_view bytes) {
    auto found = attempts_.find(id);
    if (found == attempts_.end()) return;
    Attempt& attempt = found->second;
    attempt.last_output = uv_now(host_.loop);
    const bool good = attempt.frames.Feed(bytes, [&](LogStream stream, std::string_view part) {
      if (!Hold(id, attempt, stream, part)) Keep(id, attempt, stream, part);
    });
    if (good) return;
    if (attempt.from_log) return Note(*attempt.link, "the output of a container could not be read: it is not framed as the API says");
    client_->Cancel(std::exchange(attempt.output, 0));
    ReadLogsSoon(id);
  }

  void Keep(AttemptId id, Attempt& attempt, LogStream stream, std::string_view part) {
    const auto index = static_cast<size_t>(stream);
    const uint64_t known = std::min<uint64_t>(attempt.skip[index], part.size());
    attempt.skip[index] -= known;
    part.remove_prefix(known);
    attempt.got[index] += part.size();
    if (!part.empty()) host_.log->Append(id, index == 0 ? process::LogStream::kStdout : process::LogStream::kStderr, part);
  }

  /// Whether it is kept back: if nothing follows, the engine has said it and not the program, or its log says that it was the program.
  bool Hold(AttemptId id, Attempt& attempt, LogStream stream, std::string_view part) {
    const std::string_view own = flavour_.lost_stream;
    if (attempt.from_log || own.empty()) return false;
    if (!attempt.frames.begins()) {
      if (attempt.held.empty()) return false;
      attempt.held += part;
      return true;
    }
    if (!attempt.held.empty()) Keep(id, attempt, LogStream::Stderr, std::exchange(attempt.held, {}));
    if (stream != LogStream::Stderr || !(part.starts_with(own) || (own.starts_with(part) && !attempt.frames.AtBoundary()))) return false;
    attempt.held = part;
    return true;
  }

  /// All of it again from the engine's log, without what is known, and what follows.
  void ReadLogs(AttemptId id, Attempt& attempt) {
    if (attempt.output != 0) client_->Cancel(attempt.output);
    attempt.frames = {};
    attempt.held.clear();  // not counted in `got`
    attempt.skip = attempt.got;
    attempt.from_log = true;
    attempt.log_final = attempt.died || attempt.told_exit;
    std::vector<std::pair<std::string, std::string>> query = {{"stdout", "1"}, {"stderr", "1"}};
    if (!attempt.log_final) query.emplace_back("follow", "1");
    HttpRequest request = Request(*attempt.link, "GET", ApiPath("/containers/" + attempt.container + "/logs", query));
    HttpHandlers handlers;
    auto status = std::make_shared<int>(0);
    auto refusal = std::make_shared<std::string>();
    handlers.on_head = [status](const HttpHead& head) { *status = head.status; };
    handlers.on_data = [this, id, status, refusal](std::string_view bytes) {
      if (*status == 200) {
        TakeOutput(id, bytes);
      } else if (refusal->size() < 65536) {
        refusal->append(bytes);
      }
      return true;
    };
    handlers.on_end = [this, id, status, refusal](const HttpEnd& end) {
      auto found = attempts_.find(id);
      if (found == attempts_.end()) return;
      Attempt& now = found->second;
      now.output = 0;
      if (!end.ok() || *status == 200) return OutputStops(id, now, end);
      if (!now.link->up) return;  // TakeUp() goes on with it
      if (!now.log_final) return LogEndsEarly(id, now);
      const std::string why = docker::ErrorMessage(*refusal);
      now.removed = now.removed || *status == 404;  // which ended it, too, if nothing says otherwise
      if (*status == 404 || ++now.log_tries >= kMostLogTries) return OutputIsLost(id, now, why);
      ReadLogsLater(id, now);
    };
    attempt.output = client_->Send(std::move(request), std::move(handlers));
  }

  void ReadLogsLater(AttemptId id, const Attempt& attempt) {
    const int64_t wait = std::min(kLogTryMs << std::min(attempt.log_tries, 10), kMostLogTryMs);
    Later(id, &Attempt::retry, wait, [this, id](Attempt& now) {
      if (now.link->up && now.output == 0 && !now.output_done) ReadLogs(id, now);
    });
  }

  /// Before its end is known. A container that is just being started has no log for a moment, or an empty one that ends at
  /// once, and the end of one that is followed may come before that of the program: its state says which it is.
  void LogEndsEarly(AttemptId id, Attempt& attempt) {
    if (attempt.died) return ReadLogs(id, attempt);
    if (attempt.phase == Phase::Running) Inspect(id);
  }

  /// Nothing depends on it where the program failed.
  void OutputIsLost(AttemptId id, Attempt& attempt, std::string why) {
    if (attempt.output != 0) client_->Cancel(std::exchange(attempt.output, 0));
    attempt.output_done = true;
    attempt.lost_output = why.empty() ? "it says nothing of why" : std::move(why);
    if (attempt.waits_for_log) return TellExit(id, attempt);
    if (!attempt.told_exit) return;
    Note(*attempt.link, fmt::format("the engine does not give the output of a container back: {}. Some of it is missing", attempt.lost_output));
    OutputEnded(id);
  }

  /// It has ended: its output is read once more, and only then is it told, since whether it succeeded may depend on that.
  void AwaitLog(AttemptId id, Attempt& attempt) {
    attempt.waits_for_log = true;
    attempt.log_tries = 0;
    // Without an engine TakeUp() does it, or GiveUp().
    if (attempt.link->up && (attempt.output == 0 || !attempt.log_final)) ReadLogs(id, attempt);
    WatchLog(id);
  }
  void WatchLog(AttemptId id) {
    Later(id, &Attempt::late, kLateLogMs, [this, id](Attempt& now) {
      if (now.output_done) return;
      WatchLog(id);
      if (!now.link->up || now.output == 0 || uv_now(host_.loop) - now.last_output < static_cast<uint64_t>(kLateLogMs)) return;
      if (++now.log_tries >= kMostLogTries) return OutputIsLost(id, now, "it does not come to its end");
      ReadLogs(id, now);
    });
  }

  /// In a moment, in which the stream of events ends too if it is the engine that went away.
  void ReadLogsSoon(AttemptId id) {
    Later(id, &Attempt::retry, 100, [this, id](Attempt& now) {
      if (now.link->up && now.output == 0 && !now.output_done) ReadLogs(id, now);
    });
  }

  void OutputStops(AttemptId id, Attempt& attempt, const HttpEnd& end) {
    if (!attempt.link->up) return;  // TakeUp() goes on with it
    if (!end.ok()) {
      if (attempt.waits_for_log && ++attempt.log_tries >= kMostLogTries) return OutputIsLost(id, attempt, end.message);
      return ReadLogsSoon(id);
    }
    if (!attempt.held.empty()) {
      if (attempt.held.starts_with(flavour_.lost_stream)) return ReadLogsSoon(id);
      Keep(id, attempt, LogStream::Stderr, std::exchange(attempt.held, {}));
    }
    if (attempt.from_log && !attempt.log_final) return LogEndsEarly(id, attempt);
    attempt.output_done = true;
    if (attempt.waits_for_log) return TellExit(id, attempt);
    if (attempt.told_exit) return OutputEnded(id);
    if (flavour_.slow_events && !attempt.died && attempt.phase == Phase::Running) Inspect(id);
  }

  /// Goes with its attempt: a timer that nobody needs would hold up the end of the run.
  void Later(AttemptId id, std::unique_ptr<Timer> Attempt::*which, int64_t ms, std::function<void(Attempt&)> run) {
    std::unique_ptr<Timer>& timer = attempts_.at(id).*which;
    if (!timer) timer = std::make_unique<Timer>(host_.loop);
    timer->Start(ms, [this, id, run = std::move(run)] {
      if (auto found = attempts_.find(id); found != attempts_.end()) run(found->second);
    });
  }

  // -- Its end -----------------------------------------------------------------------

  /// Cancelled: TERM, and KILL when the grace is over.
  void EndIt(AttemptId id, Attempt& attempt) {
    if (attempt.died || attempt.told_exit) return;
    const int64_t now = MonotonicMillis();
    if (attempt.term_ms < 0) attempt.term_ms = now;
    const int64_t left = attempt.term_ms + attempt.grace_ms - now;
    if (attempt.grace_ms <= 0 || left <= 0) return Signal(id, "SIGKILL");
    Signal(id, "SIGTERM");
    if (!attempt.timer) attempt.timer = std::make_unique<Timer>(host_.loop);
    attempt.timer->Start(left, [this, id] { Signal(id, "SIGKILL"); });
  }

  void Signal(AttemptId id, const char* name) {
    auto found = attempts_.find(id);
    if (found == attempts_.end() || found->second.container.empty() || found->second.died) return;
    if (!found->second.link->up) return;  // TakeUp() sends it
    Ask(*found->second.link, "POST", ApiPath("/containers/" + found->second.container + "/kill", {{"signal", name}}), "", [](const Reply&) {});
  }

  void Died(AttemptId id, Attempt& attempt, int exit_code, int64_t wall_ms) {
    if (attempt.died) return;
    attempt.died = true;
    attempt.exit_code = exit_code;
    attempt.ended_ms = wall_ms;
    if (attempt.timer) attempt.timer->Stop();
    if (attempt.phase == Phase::Running) AfterDeath(id, attempt);
  }

  void AfterDeath(AttemptId id, Attempt& attempt) {
    // Only the state says whether memory ran out; an end with 0 needs no such question.
    if (attempt.exit_code != 0 && !attempt.asked && !attempt.oom) return Inspect(id);
    Conclude(id, attempt);
  }

  void Inspect(AttemptId id) {
    Attempt& attempt = attempts_.at(id);
    if (std::exchange(attempt.asked, true)) return;
    AskFor(id, "GET", "/containers/" + attempt.container + "/json", "", [this, id](Attempt& now, const Reply& reply) {
      if (now.told_exit || now.concluding) return;
      auto state = reply.Is(200) ? docker::ParseContainer(reply.body) : std::nullopt;
      if (!state) {
        now.removed = reply.end.ok() && reply.status == 404;
        if (now.died) return Conclude(id, now);
        now.asked = false;
        if (reply.end.ok() && reply.status == 404) {
          Fail(id, Failed(ir::ErrorKind::NodeLost, fmt::format("its container was removed from outside at {}", now.link->endpoint.text)));
        } else if (now.from_log && now.output == 0 && !now.output_done) {
          ++now.log_tries;
          ReadLogsLater(id, now);
        }
        return;
      }
      if (!state->Ended()) {
        now.asked = false;  // the event comes
        if (now.died) return Conclude(id, now);
        if (now.from_log && now.output == 0 && !now.output_done) {
          ++now.log_tries;
          ReadLogsLater(id, now);
        }
        return;
      }
      now.oom = now.oom || state->oom;
      if (!now.died) {
        now.died = true;
        now.exit_code = state->exit_code;
        now.ended_ms = now.away && state->finished_ms != 0 ? state->finished_ms : WallMillis();
        if (now.timer) now.timer->Stop();
      }
      if (now.phase == Phase::Running) Conclude(id, now);
    });
  }

  /// Somebody who removes a container kills it first, so its end may be told before it is gone: a KILL that is not ours, nor that of a
  /// program (which the init program would report), is looked at again for a moment.
  static bool MayVanish(const Attempt& attempt) {
    return attempt.exit_code == 128 + SIGKILL && attempt.looks < kMostLooks && !attempt.removed && !attempt.cancelled && !attempt.oom && !attempt.away && !attempt.copied &&
           !container::ReadInitEnd(attempt.launch.places);
  }

  /// All that is said about its end is there: its files become ours again.
  void Conclude(AttemptId id, Attempt& attempt) {
    if (attempt.concluding) return;
    if (MayVanish(attempt)) {
      ++attempt.looks;
      return Later(id, &Attempt::look, kLookMs, [this, id](Attempt&) {
        AskFor(id, "GET", "/containers/" + attempts_.at(id).container + "/json", "", [this, id](Attempt& now, const Reply& reply) {
          now.removed = now.removed || (reply.end.ok() && reply.status == 404);
          Conclude(id, now);
        });
      });
    }
    attempt.concluding = true;
    if (attempt.copied) return attempt.removed ? TellExit(id, attempt) : Collect(id, attempt);
    if (!attempt.chown) return TellExit(id, attempt);
    struct Work {
      uv_work_t request;
      DockerBackend* backend;
      AttemptId id;
      std::vector<std::string> paths;
      int problem = 0;
    };
    auto* work = new Work{{}, this, id, {attempt.launch.places.output_dir, attempt.launch.places.stage_dir}};
    work->request.data = work;
    const int queued = uv_queue_work(host_.loop, &work->request, [](uv_work_t* request) {
      Work* self = static_cast<Work*>(request->data);
      for (const std::string& path : self->paths) {
        const int problem = ChownTree(path, geteuid(), getegid());
        if (self->problem == 0) self->problem = problem;
      }
    }, [](uv_work_t* request, int) {
      std::unique_ptr<Work> self(static_cast<Work*>(request->data));
      DockerBackend& backend = *self->backend;
      --backend.working_;
      if (auto found = backend.attempts_.find(self->id); found != backend.attempts_.end()) backend.TellExit(self->id, found->second);
    });
    if (queued != 0) {
      delete work;
      return TellExit(id, attempt);
    }
    ++working_;
  }

  void TellExit(AttemptId id, Attempt& attempt) {
    if (attempt.from_log && !attempt.output_done && !attempt.waits_for_log) return AwaitLog(id, attempt);
    const auto report = container::ReadInitEnd(attempt.launch.places);
    const bool by_signal = report ? report->exit.signal.has_value() : attempt.exit_code > 128;
    attempt.phase = Phase::Ended;
    attempt.told_exit = true;
    if (attempt.problem) {
      host_.events->OnFailed(id, *std::move(attempt.problem));
    } else if (report && report->start_error != 0) {
      const std::string program = attempt.launch.argv.empty() ? "the command" : attempt.launch.argv.front();
      host_.events->OnFailed(id, container::StartVerdict(report->start_error, program, fmt::format("the image `{}`", attempt.launch.image)));
    } else if (report && report->limit && !attempt.cancelled) {
      host_.events->OnFailed(id, Failed(ir::ErrorKind::Timeout, "`timeout.run` ended it inside its container"));
    } else if (attempt.removed && !report && !attempt.cancelled) {
      host_.events->OnFailed(id, Failed(ir::ErrorKind::NodeLost, fmt::format("its container was removed from outside at {}", attempt.link->endpoint.text)));
    } else if (attempt.away && !attempt.cancelled && by_signal && !attempt.oom) {
      host_.events->OnFailed(id, Failed(ir::ErrorKind::NodeLost, fmt::format("{} at {} went away and ended it", ir::BackendName(flavour_.kind), attempt.link->endpoint.text)));
    } else {
      AttemptExit exit;
      if (report) exit = report->exit;
      if (!report) {
        // Without a report the program's own end is not known: 128 + N is what engines make of a signal.
        const int signal = attempt.exit_code - 128;
        if (signal == SIGKILL || (signal > 0 && signal == attempt.killed_by)) {
          exit.signal = signal;
        } else {
          exit.exit_code = attempt.exit_code;
        }
      }
      exit.out_of_memory = exit.out_of_memory || (attempt.oom && exit.exit_code.value_or(1) != 0);
      exit.wall_ms = report && report->exit.wall_ms != 0 ? report->exit.wall_ms : attempt.ended_ms;
      const std::string lost = attempt.lost_output.empty() ? "" : fmt::format("{} at {} does not give its output back", ir::BackendName(flavour_.kind), attempt.link->endpoint.text);
      if (!lost.empty() && exit.exit_code.value_or(1) == 0 && !exit.out_of_memory && !attempt.cancelled) {
        host_.events->OnFailed(id, Failed(ir::ErrorKind::NodeLost, fmt::format("its program ended with 0, but {}: {}. What it said is not known, so it has not succeeded", lost, attempt.lost_output)));
      } else {
        if (!lost.empty()) Note(*attempt.link, fmt::format("{} of {}: {}. Some of it is missing", lost, attempt.launch.address, attempt.lost_output));
        host_.events->OnExited(id, exit);
      }
    }
    auto found = attempts_.find(id);
    if (found == attempts_.end()) return;
    if (attempt.output_done) return OutputEnded(id);
    Later(id, &Attempt::late, kLateLogMs, [this, id](Attempt& now) {
      // The engine has lost its end: what its log has is all there is.
      if (now.link->up && !now.output_done) ReadLogs(id, now);
      Later(id, &Attempt::late, kLateLogMs, [this, id](Attempt& late) {
        if (late.link->up && uv_now(host_.loop) - late.last_output >= static_cast<uint64_t>(kLateLogMs)) OutputEnded(id);
      });
    });
  }

  /// Everything is known and told: the container goes as soon as that is recorded.
  void OutputEnded(AttemptId id) {
    Attempt& attempt = attempts_.at(id);
    over_[id] = {attempt.link, attempt.container, false};
    RemoveSecrets(attempt);
    Forget(id);
    host_.events->OnReaped(id);
  }

  // -- Gone --------------------------------------------------------------------------

  /// The one answer for what did not end by itself.
  void Fail(AttemptId id, Verdict verdict) {
    auto found = attempts_.find(id);
    if (found == attempts_.end()) return;
    Attempt& attempt = found->second;
    const bool told = attempt.told_exit;
    if (attempt.link != nullptr && !attempt.container.empty()) Remove(*attempt.link, attempt.container);
    // Once begun, it is not the same attempt that is tried again.
    if (attempt.may_have_begun && !std::exchange(attempt.told_started, true)) {
      host_.events->OnStarted(id, attempt.started_ms, 0, attempt.handle);
      if (attempts_.count(id) == 0) return;
    }
    if (attempt.told_started) RemoveSecrets(attempt);  // else it may be submitted again; Release() removes them
    Forget(id);
    if (!told) host_.events->OnFailed(id, std::move(verdict));
    host_.events->OnReaped(id);
  }

  static std::string SecretsName(std::string_view run, AttemptId id) { return fmt::format("jobc-{}-{}", run, id); }

  /// All that may be said of attempts of this backend.
  std::string Filter(bool events) const { return host_.takes_over ? docker::StateFilter(state_label_, events) : docker::RunFilter(host_.run_id, events); }

  /// The same from within a call of the engine of runs.
  void FailSoon(AttemptId id, Verdict verdict) {
    Attempt& attempt = attempts_.at(id);
    if (std::exchange(attempt.failing, true)) return;
    Soon([this, id, verdict = std::move(verdict)] { Fail(id, verdict); });
  }

  static void RemoveSecrets(const Attempt& attempt) {
    if (!attempt.launch.places.secrets_dir.empty()) (void)process::RemoveTree(attempt.launch.places.secrets_dir).ok();
  }

  void Forget(AttemptId id) {
    auto found = attempts_.find(id);
    if (found == attempts_.end()) return;
    Attempt& attempt = found->second;
    if (attempt.output != 0) client_->Cancel(attempt.output);
    Drop(attempt);
    if (attempt.link != nullptr) {
      attempt.link->by_container.erase(attempt.container);
      for (const std::string& gpu : attempt.gpus) attempt.link->gpus.erase(gpu);
      std::erase(attempt.link->images[attempt.launch.image].waiting, id);
      if (attempt.link->prober == id) {
        attempt.link->prober = 0;
        Sure(*attempt.link);
      }
    }
    host_.log->Close(id);
    attempts_.erase(found);
  }

  void Remove(Link& link, const std::string& name) {
    if (!link.up) {
      link.condemned.insert(name);
      return;
    }
    link.removing.insert(name);
    Ask(link, "DELETE", ApiPath("/containers/" + name, {{"force", "1"}, {"v", "1"}}), "", [this, &link, name](const Reply& reply) {
      link.removing.erase(name);
      // 404: it is gone; 409: that is under way.
      if (reply.Is(200) || (reply.end.ok() && (reply.status == 404 || reply.status == 409))) return;
      link.condemned.insert(name);
      if (reply.end.ok()) Note(link, fmt::format("a container could not be removed: {}. `jobc gc` tries again", docker::ErrorMessage(reply.body)));
    });
  }

  /// Blocks until the engine has removed them.
  void RemoveNow(const std::vector<Doomed>& doomed) {
    std::vector<Doomed> todo = doomed;
    for (int round = 0; round < 200 && !todo.empty(); ++round) {
      uv_loop_t loop;
      if (uv_loop_init(&loop) != 0) return;
      std::vector<Doomed> again;
      if (auto client = HttpClient::Create(&loop)) {
        for (const Doomed& one : todo) {
          HttpRequest request = Request(*one.link, "DELETE", ApiPath("/containers/" + one.name, {{"force", "1"}, {"v", "1"}}));
          request.connect_ms = 2'000;
          request.total_ms = one.link->told_silent ? times_.ping_ms : 30'000;
          auto status = std::make_shared<int>(0);
          (*client)->Send(std::move(request), {[status](const HttpHead& head) { *status = head.status; }, nullptr, [&again, status, one](const HttpEnd& end) {
            // Its creation may still be under way, or its removal, which was asked for before.
            if (end.ok() && ((*status == 404 && one.may_come) || *status == 409 || *status >= 500)) again.push_back(one);
          }});
        }
        uv_run(&loop, UV_RUN_DEFAULT);
        client->reset();
      }
      uv_run(&loop, UV_RUN_DEFAULT);
      uv_loop_close(&loop);
      // What never came within a second will not.
      if (round >= 20) std::erase_if(again, [](const Doomed& one) { return one.may_come; });
      todo = std::move(again);
      if (!todo.empty()) usleep(50'000);
    }
  }

  BackendHost host_;
  const DockerTimes times_;
  const docker::Flavour& flavour_;
  docker::Surroundings around_;
  std::string state_label_;
  std::string init_;  ///< the program, on this machine
  std::unique_ptr<HttpClient> client_;
  std::unique_ptr<docker::CredentialHelpers> helpers_;
  std::unique_ptr<process::AttemptDirs> dirs_;
  std::unique_ptr<Timer> soon_timer_;
  std::vector<std::function<void()>> soon_;
  std::map<std::pair<std::string, std::string>, std::unique_ptr<Link>> links_;
  std::unordered_map<AttemptId, AttemptPlaces> prepared_;
  std::unordered_map<AttemptId, Attempt> attempts_;
  std::map<AttemptId, Doomed> over_;  ///< ended, and told so; until that is recorded
  std::vector<Doomed> not_there_;     ///< looked for in vain: the engine may have been making it for the jobc that died, and nobody starts it
  int working_ = 0;  ///< in the thread pool
  bool stopping_ = false;
};

}  // namespace

Result<std::unique_ptr<Backend>> MakeDockerBackend(ir::BackendKind kind, const BackendHost& host, const DockerTimes& times) {
  auto backend = std::make_unique<DockerBackend>(kind, host, times);
  if (auto opened = backend->Open(); !opened) return opened.error();
  return std::unique_ptr<Backend>(std::move(backend));
}

}  // namespace jobc

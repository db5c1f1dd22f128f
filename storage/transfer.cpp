#include "storage/transfer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <ctime>
#include <deque>
#include <map>
#include <unordered_map>

#include "ir/json.h"
#include "runtime/process/os.h"
#include "storage/s3_answer.h"
#include "support/sha256.h"

namespace jobc::storage {
namespace {

constexpr size_t kMostErrorBody = 64 << 10;
constexpr uint64_t kHashStep = 8 << 20;     ///< hashed by a thread while the rest comes
constexpr uint64_t kHashAtOnce = 256 << 10; ///< smaller files are hashed in the loop
constexpr uint64_t kSmall = 16 << 10;       ///< begins anew in a later fetch
constexpr uint64_t kMostList = 32 << 20;    ///< a thousand keys of a kilobyte, each byte as %XX
constexpr uint64_t kMostParts = 9000;       ///< S3 takes 10,000

/// A descriptor that threads and the loop share.
class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  ~File() {
    if (fd_ >= 0) {
      close(fd_);
    }
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

/// Adds the bytes [from, to) of a file. False: they are not there, `errno` says why (0: the file is shorter).
bool HashRange(int fd, uint64_t from, uint64_t to, Sha256& hash) {
  std::vector<char> block(static_cast<size_t>(std::min<uint64_t>(256 << 10, std::max<uint64_t>(to - from, 1))));
  while (from < to) {
    const ssize_t count = pread(fd, block.data(), static_cast<size_t>(std::min<uint64_t>(block.size(), to - from)), static_cast<off_t>(from));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count <= 0) {
      errno = count == 0 ? 0 : errno;
      return false;
    }
    hash.Update({block.data(), static_cast<size_t>(count)});
    from += static_cast<uint64_t>(count);
  }
  return true;
}

Failure Local(std::string message) { return {FailureKind::Local, std::move(message), 0, 0}; }

std::string Tried(int times) { return times > 1 ? fmt::format(" (tried {} times)", times) : std::string(); }

/// `bytes 10-19/200`.
bool ReadContentRange(std::string_view text, uint64_t& first) {
  if (!text.starts_with("bytes ")) {
    return false;
  }
  text.remove_prefix(6);
  auto read = std::from_chars(text.data(), text.data() + text.size(), first);
  return read.ec == std::errc() && read.ptr != text.data() + text.size() && *read.ptr == '-';
}

/// An upload in parts that is under way, on the disk.
struct UploadRecord {
  std::string uri, upload, sha256;
  uint64_t part_bytes = 0;
  friend bool operator==(const UploadRecord&, const UploadRecord&) = default;

  static std::optional<UploadRecord> Read(const std::string& path) {
    auto text = path.empty() ? std::nullopt : process::ReadFile(path);
    auto json = text ? ir::ParseJson(*text) : Result<ir::Value>(Error{""});
    if (!json || json->kind() != ir::ValueKind::Map) {
      return std::nullopt;
    }
    UploadRecord out;
    for (auto& [name, field] : {std::pair("uri", &out.uri), std::pair("upload", &out.upload), std::pair("sha256", &out.sha256)}) {
      const ir::Value* found = json->Find(name);
      if (found == nullptr || found->kind() != ir::ValueKind::String) {
        return std::nullopt;
      }
      *field = found->as_string();
    }
    const ir::Value* bytes = json->Find("part_bytes");
    if (bytes == nullptr || bytes->kind() != ir::ValueKind::Int) {
      return std::nullopt;
    }
    out.part_bytes = static_cast<uint64_t>(bytes->as_int());
    return out;
  }

  /// Without one, an upload is only not gone on with.
  void Write(const std::string& path) const {
    if (path.empty() || !process::MakeDirectories(path.substr(0, path.rfind('/')))) {
      return;
    }
    const std::string text = fmt::format("{{\"uri\":{},\"upload\":{},\"sha256\":{},\"part_bytes\":{}}}\n", ir::JsonQuote(uri), ir::JsonQuote(upload), ir::JsonQuote(sha256), part_bytes);
    const File file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (file.get() >= 0 && write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
      unlink(path.c_str());
    }
  }

  /// Unless another upload stands there by now.
  static void Remove(const std::string& path, const std::string& upload) {
    if (auto found = Read(path); found && found->upload == upload) {
      unlink(path.c_str());
    }
  }
};

/// Work for a thread, and what the loop does after it.
struct Work {
  uv_work_t request{};
  std::function<void()> run, then;
};

void InThread(uv_loop_t* loop, std::function<void()> run, std::function<void()> then) {
  auto* work = new Work{{}, std::move(run), std::move(then)};
  work->request.data = work;
  JOBC_CHECK(uv_queue_work(loop, &work->request, [](uv_work_t* request) { static_cast<Work*>(request->data)->run(); },
                           [](uv_work_t* request, int) {
    std::unique_ptr<Work> self(static_cast<Work*>(request->data));
    self->then();
  }) == 0);
}

}  // namespace

struct Transfers::Impl {
  struct Exchange {
    std::function<HttpRequest()> make;
    std::function<void(const HttpHead&)> on_head;       ///< of a success
    std::function<void(std::string_view)> on_data;      ///< of a success
    /// `head` with status 0: there was no answer. `body`: of what is no success.
    std::function<void(const HttpHead& head, const std::string& body, const HttpEnd& end)> on_end;
    HttpHead head;
    std::string body;
    uint64_t http = 0;   ///< 0: waits for its turn
  };

  class Task : public std::enable_shared_from_this<Task> {
   public:
    Task(Impl& impl, Id id) : impl_(impl), id_(id) {}
    virtual ~Task() = default;
    virtual void Start() = 0;
    /// Nobody waits for it any more.
    virtual void Abandon() { DropExchanges(); }
    uint64_t moved() const { return moved_; }

   protected:
    uint64_t Exchange(Impl::Exchange exchange) {
      const uint64_t number = impl_.Enqueue(std::move(exchange));
      exchanges_.push_back(number);
      return number;
    }
    void DropExchanges() {
      for (uint64_t number : exchanges_) {
        impl_.Abort(number);
      }
      exchanges_.clear();
    }
    /// When the loop comes by, unless the task is gone by then.
    void Soon(std::function<void()> then) { impl_.Later(0, IfAlive(std::move(then))); }
    /// Before the next try, in `ms`.
    void BackOff(int64_t ms, std::function<void()> then) {
      if (impl_.options.timers != nullptr) {
        impl_.options.timers->After(ms, IfAlive(std::move(then)));
      } else {
        impl_.Later(ms, IfAlive(std::move(then)));
      }
    }
    std::function<void()> IfAlive(std::function<void()> then) {
      return [weak = weak_from_this(), then = std::move(then)] {
        if (auto self = weak.lock(); self && !self->over_) {
          then();
        }
      };
    }
    void Thread(std::function<void()> run, std::function<void()> then) {
      auto self = shared_from_this();
      InThread(impl_.loop, std::move(run), [self, then = std::move(then)] {
        if (!self->over_) {
          then();
        }
      });
    }
    /// The last thing a task does; `this` may be gone afterwards.
    template <typename Done, typename T>
    void Finish(Done& done, T result) {
      auto self = shared_from_this();
      over_ = true;
      DropExchanges();
      Done last = std::move(done);
      impl_.tasks.erase(id_);
      last(std::move(result));
    }

    Impl& impl_;
    Id id_;
    std::vector<uint64_t> exchanges_;
    uint64_t moved_ = 0;

   public:
    bool over_ = false;
  };

  /// A small request that is tried again until it has an answer.
  struct Ask {
    ObjectRequest request;
    std::string doing;
    std::string body;
    uint64_t most = 1 << 20;  ///< bytes of the answer
  };
  struct Answer {
    HttpHead head;
    std::string body;
  };

  class HeadTask;
  class ReadTask;
  class ListTask;
  class DeleteTask;
  class FetchTask;
  class PutTask;
  class SmallTask;

  Impl(uv_loop_t* l, TransferOptions o) : loop(l), options(std::move(o)) {
    timer = new uv_timer_t;
    uv_timer_init(loop, timer);
    timer->data = this;
  }

  ~Impl() {
    for (auto& [id, task] : tasks) {
      task->over_ = true;
      task->Abandon();
    }
    tasks.clear();
    http.reset();
    uv_timer_stop(timer);
    uv_close(reinterpret_cast<uv_handle_t*>(timer), [](uv_handle_t* handle) { delete reinterpret_cast<uv_timer_t*>(handle); });
  }

  /// The storage of an address, or why there is none.
  Outcome<const Storage*> StorageOf(const std::string& uri, Address& address) {
    auto parsed = ParseAddress(uri);
    if (!parsed) {
      return Failure{FailureKind::Refused, parsed.error().message, 0, 0};
    }
    address = *std::move(parsed);
    if (address.scheme == Scheme::Https) {
      if (https == nullptr) {
        https = MakeHttpsStorage();
      }
      return static_cast<const Storage*>(https.get());
    }
    if (s3 == nullptr) {
      auto settings = ReadS3Settings(options.surroundings);
      if (!settings) {
        return Failure{FailureKind::Auth, fmt::format("`{}`: {}", uri, settings.error().message), 0, 0};
      }
      s3 = MakeS3Storage(*std::move(settings));
    }
    return static_cast<const Storage*>(s3.get());
  }

  // -- Exchanges -----------------------------------------------------------------

  uint64_t Enqueue(Exchange exchange) {
    const uint64_t number = ++last_number;
    exchanges.emplace(number, std::make_shared<Exchange>(std::move(exchange)));
    waiting.push_back(number);
    Later(0, [this] { SendWaiting(); });
    return number;
  }

  void SendWaiting() {
    while (sending < options.parallel && !waiting.empty()) {
      const uint64_t number = waiting.front();
      waiting.pop_front();
      auto found = exchanges.find(number);
      if (found == exchanges.end()) {
        continue;
      }
      std::shared_ptr<Exchange> one = found->second;
      HttpRequest request = one->make();
      request.connect_ms = options.connect_ms;
      request.stall_ms = options.stall_ms;
      ++sending;
      HttpHandlers handlers;
      handlers.on_head = [one](const HttpHead& head) {
        one->head = head;
        if (head.status < 300 && one->on_head) {
          one->on_head(head);
        }
      };
      handlers.on_data = [one](std::string_view bytes) {
        if (one->head.status < 300 && one->on_data) {
          one->on_data(bytes);
        } else if (one->body.size() < kMostErrorBody) {
          one->body.append(bytes.substr(0, kMostErrorBody - one->body.size()));
        }
        return true;
      };
      handlers.on_end = [this, one, number](const HttpEnd& end) {
        exchanges.erase(number);
        --sending;
        if (!waiting.empty()) {
          Later(0, [this] { SendWaiting(); });
        }
        one->on_end(one->head, one->body, end);
      };
      one->http = http->Send(std::move(request), std::move(handlers));
    }
  }

  void Abort(uint64_t number) {
    auto found = exchanges.find(number);
    if (found == exchanges.end()) {
      return;
    }
    if (found->second->http != 0) {
      http->Cancel(found->second->http);
      --sending;
      Later(0, [this] { SendWaiting(); });
    }
    exchanges.erase(found);
  }

  void Later(int64_t ms, std::function<void()> then) {
    // The loop's own time may be old: a transfer that just ended took its part of this turn.
    due.emplace(static_cast<int64_t>(uv_now(loop)) + ms, std::move(then));
    Arm();
  }

  void Arm() {
    if (due.empty()) {
      return;
    }
    uv_timer_start(timer, [](uv_timer_t* handle) { static_cast<Impl*>(handle->data)->Due(); },
                   static_cast<uint64_t>(std::max<int64_t>(0, due.begin()->first - static_cast<int64_t>(uv_now(loop)))), 0);
  }

  void Due() {
    const int64_t now = static_cast<int64_t>(uv_now(loop));
    std::vector<std::function<void()>> ready;
    while (!due.empty() && due.begin()->first <= now) {
      ready.push_back(std::move(due.begin()->second));
      due.erase(due.begin());
    }
    for (auto& one : ready) {
      one();
    }
    Arm();
  }

  /// What was sent of an upload that nobody finishes costs money until it is removed. Nobody waits for the answer.
  /// `record` goes with it.
  void AbortUpload(const Storage* storage, const Address& address, const std::string& upload, const std::string& record) {
    Exchange exchange;
    exchange.make = [storage, address, upload] { return storage->Request({"DELETE", address, {{"uploadId", upload}}, {}}, std::time(nullptr)); };
    exchange.on_end = [upload, record](const HttpHead& head, const std::string&, const HttpEnd& end) {
      if (end.ok() && (head.status < 300 || head.status == 404)) {
        UploadRecord::Remove(record, upload);
      }
    };
    Enqueue(std::move(exchange));
  }

  template <typename T, typename... Args>
  Id Add(Args&&... args) {
    const Id id = ++last_task;
    auto task = std::make_shared<T>(*this, id, std::forward<Args>(args)...);
    tasks.emplace(id, task);
    Later(0, [weak = std::weak_ptr<Task>(task)] {
      if (auto self = weak.lock(); self && !self->over_) {
        self->Start();
      }
    });
    return id;
  }

  uv_loop_t* loop;
  TransferOptions options;
  std::unique_ptr<HttpClient> http;
  std::unique_ptr<Storage> https, s3;
  uv_timer_t* timer;                                           // freed by its close callback
  std::multimap<int64_t, std::function<void()>> due;           ///< by uv_now()
  std::unordered_map<uint64_t, std::shared_ptr<Exchange>> exchanges;
  std::deque<uint64_t> waiting;
  uint32_t sending = 0;
  uint64_t last_number = 0;
  Id last_task = 0;
  std::unordered_map<Id, std::shared_ptr<Task>> tasks;
};

// --- Small requests ---------------------------------------------------------

/// Asks until there is an answer; for requests whose answer fits into memory.
class Transfers::Impl::SmallTask : public Task {
 public:
  using Task::Task;

 protected:
  bool Open(const std::string& uri, Failure& failure) {
    auto found = impl_.StorageOf(uri, address_);
    if (!found) {
      failure = found.failure();
      return false;
    }
    storage_ = *found;
    return true;
  }

  /// `then` gets the answer of a success, or the failure that trying again did not mend.
  void AskFor(Ask ask, std::function<void(Outcome<Answer>)> then) {
    auto state = std::make_shared<Asking>();
    state->ask = std::move(ask);
    state->then = std::move(then);
    state->retries = Retries(impl_.options.retry, id_ * 7919 + impl_.last_number);
    Try(std::move(state));
  }

  const Storage* storage_ = nullptr;
  Address address_;

 private:
  struct Asking {
    Ask ask;
    std::function<void(Outcome<Answer>)> then;
    Retries retries;
    std::string body;
    bool too_large = false;
  };

  void Try(std::shared_ptr<Asking> state) {
    state->body.clear();
    Impl::Exchange exchange;
    exchange.make = [this, state] {
      HttpRequest out = storage_->Request(state->ask.request, std::time(nullptr));
      out.body = state->ask.body;
      return out;
    };
    exchange.on_data = [state](std::string_view bytes) {
      state->too_large = state->too_large || state->body.size() + bytes.size() > state->ask.most;
      if (!state->too_large) {
        state->body.append(bytes);
      }
    };
    exchange.on_end = [this, state](const HttpHead& head, const std::string& body, const HttpEnd& end) {
      auto self = shared_from_this();
      if (end.ok() && head.status >= 200 && head.status < 300) {
        if (state->too_large) {
          state->then(Failure{FailureKind::Refused, fmt::format("`{}` is larger than {} bytes", ShownUri(address_.uri), state->ask.most), 0, head.status});
        } else {
          state->then(Answer{head, std::move(state->body)});
        }
        return;
      }
      Failure failure = end.ok() ? storage_->Explain(address_, state->ask.doing, head, body) : ExplainEnd(address_, state->ask.doing, end);
      const int64_t delay = state->retries.Next(failure, false);
      if (delay >= 0) {
        BackOff(delay, [this, state] { Try(state); });
        return;
      }
      failure.message += Tried(state->retries.failed());
      state->then(std::move(failure));
    };
    Exchange(std::move(exchange));
  }
};

class Transfers::Impl::HeadTask : public SmallTask {
 public:
  using Done = std::function<void(Outcome<RemoteIdentity>)>;
  HeadTask(Impl& impl, Id id, std::string uri, Done done) : SmallTask(impl, id), uri_(std::move(uri)), done_(std::move(done)) {}

  void Start() override {
    Failure failure;
    if (!Open(uri_, failure)) {
      return Finish(done_, Outcome<RemoteIdentity>(std::move(failure)));
    }
    AskFor({{"HEAD", address_, {}, {}}, "look at", "", 1 << 20}, [this](Outcome<Answer> answer) {
      const int status = answer ? 0 : answer.failure().status;
      // Addresses that are signed for GET alone, and servers that never heard of HEAD.
      const bool other_server = address_.scheme == Scheme::Https && (status == 403 || status == 405 || status == 501);
      // What is wrong stands in the body, which the answer to a HEAD has not.
      const bool no_words = address_.scheme == Scheme::S3 && status >= 300 && status < 500;
      if (other_server || no_words) {
        AskFor({{"GET", address_, {}, {{"range", "bytes=0-0"}}}, "look at", "", 1 << 20}, [this, answer](Outcome<Answer> first) mutable {
          End(first || first.failure().status != 416 ? first : answer);
        });
        return;
      }
      End(answer);
    });
  }

 private:
  void End(Outcome<Answer>& answer) {
    if (!answer) {
      return Finish(done_, Outcome<RemoteIdentity>(answer.failure()));
    }
    Finish(done_, Outcome<RemoteIdentity>(IdentityOf(answer->head)));
  }
  std::string uri_;
  Done done_;
};

class Transfers::Impl::ReadTask : public SmallTask {
 public:
  using Done = std::function<void(Outcome<std::string>)>;
  ReadTask(Impl& impl, Id id, std::string uri, uint64_t most, Done done) : SmallTask(impl, id), uri_(std::move(uri)), most_(most), done_(std::move(done)) {}

  void Start() override {
    Failure failure;
    if (!Open(uri_, failure)) {
      return Finish(done_, Outcome<std::string>(std::move(failure)));
    }
    AskFor({{"GET", address_, {}, {}}, "read", "", most_}, [this](Outcome<Answer> answer) {
      Finish(done_, answer ? Outcome<std::string>(std::move(answer->body)) : Outcome<std::string>(answer.failure()));
    });
  }

 private:
  std::string uri_;
  uint64_t most_;
  Done done_;
};

class Transfers::Impl::ListTask : public SmallTask {
 public:
  using Done = std::function<void(Outcome<ListPage>)>;
  ListTask(Impl& impl, Id id, std::string uri, std::string after, Done done) : SmallTask(impl, id), uri_(std::move(uri)), after_(std::move(after)), done_(std::move(done)) {}

  void Start() override {
    Failure failure;
    if (!Open(uri_, failure)) {
      return Finish(done_, Outcome<ListPage>(std::move(failure)));
    }
    if (address_.scheme != Scheme::S3) {
      return Finish(done_, Outcome<ListPage>(Failure{FailureKind::Refused, fmt::format("`{}` cannot be listed: only `s3://BUCKET/…` can", ShownUri(uri_)), 0, 0}));
    }
    ObjectRequest request{"GET", address_, {{"list-type", "2"}, {"encoding-type", "url"}}, {}};
    if (!address_.key.empty()) {
      request.query.emplace_back("prefix", address_.key);
    }
    if (!after_.empty()) {
      request.query.emplace_back("start-after", after_);
    }
    request.address.key.clear();
    AskFor({std::move(request), "list", "", kMostList}, [this](Outcome<Answer> answer) {
      if (!answer) {
        return Finish(done_, Outcome<ListPage>(answer.failure()));
      }
      auto page = ReadListing(answer->body);
      if (!page) {
        return Finish(done_, Outcome<ListPage>(Failure{FailureKind::Refused, fmt::format("`{}`: {}", uri_, page.error().message), 0, answer->head.status}));
      }
      ListPage out;
      out.more = page->more;
      for (S3Listed& one : page->objects) {
        out.objects.push_back({std::move(one.key), {std::move(one.etag), "", one.size}});
      }
      Finish(done_, Outcome<ListPage>(std::move(out)));
    });
  }

 private:
  std::string uri_, after_;
  Done done_;
};

class Transfers::Impl::DeleteTask : public SmallTask {
 public:
  using Done = std::function<void(Outcome<bool>)>;
  DeleteTask(Impl& impl, Id id, std::string uri, Done done) : SmallTask(impl, id), uri_(std::move(uri)), done_(std::move(done)) {}

  void Start() override {
    Failure failure;
    if (!Open(uri_, failure)) {
      return Finish(done_, Outcome<bool>(std::move(failure)));
    }
    AskFor({{"DELETE", address_, {}, {}}, "remove", "", 1 << 20}, [this](Outcome<Answer> answer) {
      if (!answer && answer.failure().status != 404) {
        return Finish(done_, Outcome<bool>(answer.failure()));
      }
      Finish(done_, Outcome<bool>(true));
    });
  }

 private:
  std::string uri_;
  Done done_;
};

// --- Fetch ------------------------------------------------------------------

class Transfers::Impl::FetchTask : public Task {
 public:
  using Done = std::function<void(Outcome<Fetched>)>;
  FetchTask(Impl& impl, Id id, FetchSpec spec, Done done) : Task(impl, id), spec_(std::move(spec)), done_(std::move(done)) {
    if (spec_.part == nullptr) {
      spec_.part = std::make_shared<FetchedPart>();
    }
  }

  void Start() override {
    auto found = impl_.StorageOf(spec_.uri, address_);
    if (!found) {
      return Finish(done_, Outcome<Fetched>(found.failure()));
    }
    storage_ = *found;
    FetchedPart& part = *spec_.part;
    if (spec_.expected && spec_.expected->known() && spec_.expected->size.value_or(0) > impl_.options.record_above && !spec_.record.empty()) {
      recorded_ = true;
      if (part.bytes.empty()) {
        part = FetchRecord::Read(spec_.record).value_or(FetchedPart());
      }
    }
    // Bytes that are there are those of what is wanted only if both have the same name.
    if (!part.identity.known() || (spec_.expected && !Difference(*spec_.expected, part.identity).empty())) {
      part = {};
    }
    if (spec_.expected) {
      identity_ = *spec_.expected;
      has_identity_ = true;
    } else if (!part.bytes.empty()) {
      identity_ = part.identity;
      has_identity_ = true;
    }
    // What is small is not gone on with by another fetch, and so gets its last mode at once: where there are many of them,
    // most of the work is that of the file system.
    int fd = -1;
    if (identity_.known() && identity_.size && *identity_.size <= kSmall) {
      part = {};
      fd = open(spec_.path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0444);
      if (fd < 0 && errno == EEXIST && unlink(spec_.path.c_str()) == 0) {
        fd = open(spec_.path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0444);
      }
    } else {
      fd = open(spec_.path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    }
    file_ = std::make_shared<File>(fd);
    struct stat info;
    if (fd >= 0 && (fstat(fd, &info) != 0 || static_cast<uint64_t>(info.st_size) < part.bytes.End())) {
      part = {};
    }
    // Before anything is taken away or written: what a record names is there at any time.
    if (fd < 0 || (recorded_ && !StartRecord()) || ftruncate(fd, static_cast<off_t>(part.bytes.End())) != 0) {
      return Fail(CannotWrite());
    }
    moved_ = part.bytes.Sum();
    hash_ = std::make_shared<Sha256>(identity_.size.value_or(0));
    if (identity_.known() && identity_.size) {
      const uint64_t size = *identity_.size;
      const uint64_t step = size - moved_ > impl_.options.split_above ? impl_.options.part_bytes : size;
      uint64_t at = 0;
      auto missing_until = [&](uint64_t end) {
        for (; at < end; at = std::min(end, at + step)) {
          segments_.emplace(at, Segment{at, std::min(end, at + step), at, NewRetries()});
        }
      };
      for (const auto& [from, to] : part.bytes.all()) {
        missing_until(from);
        Segment there{from, to, to, NewRetries()};
        there.done = true;
        segments_.emplace(from, std::move(there));
        at = to;
      }
      missing_until(size);
      if (size == 0) {
        segments_.emplace(0, Segment{0, 0, 0, NewRetries()});
      }
    } else {
      const uint64_t from = part.bytes.First();
      segments_.emplace(from, Segment{from, kToTheEnd, from, NewRetries()});
      contiguous_ = from;
    }
    Launch();
    Advance();
  }

  void Abandon() override {
    NoteAll();
    DropExchanges();
  }

 private:
  static constexpr uint64_t kToTheEnd = UINT64_MAX;
  struct Segment {
    uint64_t begin = 0, end = kToTheEnd;
    uint64_t at = 0;          ///< the next byte
    Retries retries;
    uint64_t tried_from = 0;  ///< `at` when it was asked for last
    uint64_t noted = 0;       ///< up to here in the record, or `begin` if that is later
    bool active = false, done = false;
    std::optional<Failure> wrong;  ///< what is wrong with the answer that comes
    bool ignored_range = false;
    uint64_t exchange = 0;
  };

  Failure CannotWrite() const {
    const int error = errno;
    return Local(fmt::format("cannot write `{}`: {}{}", spec_.path, std::strerror(error), error == ENOSPC || error == EDQUOT ? "; make room, or name another state directory with `--state DIR`" : ""));
  }

  bool StartRecord() {
    auto begun = record_.Begin(spec_.record, {identity_, spec_.part->bytes});
    if (!begun) {
      errno = begun.error().code;
    }
    return begun.ok();
  }

  /// Tells the record of what came since the last time.
  void Note(Segment& segment) {
    const uint64_t from = std::max(segment.noted, segment.begin);
    if (recorded_ && segment.at > from) {
      record_.Add(from, segment.at);
      segment.noted = segment.at;
    }
  }

  Retries NewRetries() { return Retries(impl_.options.retry, id_ * 104729 + segments_.size()); }

  void Launch() {
    uint32_t active = 0;
    for (const auto& [begin, segment] : segments_) {
      active += segment.active ? 1 : 0;
    }
    for (auto& [begin, segment] : segments_) {
      if (active >= impl_.options.parts_at_once) {
        break;
      }
      if (!segment.active && !segment.done) {
        segment.active = true;
        ++active;
        Ask(begin);
      }
    }
  }

  void AskLater(int64_t delay, uint64_t begin) {
    BackOff(delay, [this, begin, generation = generation_] {
      if (generation == generation_) {
        Ask(begin);
      }
    });
  }

  void Ask(uint64_t begin) {
    Segment& segment = segments_.at(begin);
    segment.tried_from = segment.at;
    segment.wrong.reset();
    segment.ignored_range = false;
    Impl::Exchange exchange;
    exchange.make = [this, begin] {
      const Segment& one = segments_.at(begin);
      ObjectRequest request{"GET", address_, {}, {}};
      if (identity_.known()) {
        if (address_.scheme == Scheme::S3 && !identity_.version.empty()) {
          request.query.emplace_back("versionId", identity_.version);
        }
        if (!identity_.etag.empty()) {
          request.headers.emplace_back("if-match", identity_.etag);
        }
      }
      const bool whole = one.at == 0 && (one.end == kToTheEnd || (segments_.size() == 1 && one.begin == 0 && one.end == identity_.size));
      if (!whole) {
        request.headers.emplace_back("range", one.end == kToTheEnd ? fmt::format("bytes={}-", one.at) : fmt::format("bytes={}-{}", one.at, one.end - 1));
      }
      return storage_->Request(request, std::time(nullptr));
    };
    exchange.on_head = [this, begin](const HttpHead& head) {
      OnHead(segments_.at(begin), head);
      StopIfWrong(begin);
    };
    exchange.on_data = [this, begin](std::string_view bytes) {
      auto self = shared_from_this();
      Segment& one = segments_.at(begin);
      const bool was_wrong = one.wrong || one.ignored_range;
      OnData(one, bytes);
      if (!was_wrong && !over_) {
        StopIfWrong(begin);
      }
    };
    exchange.on_end = [this, begin](const HttpHead& head, const std::string& body, const HttpEnd& end) {
      auto self = shared_from_this();
      OnEnd(begin, head, body, end);
    };
    segment.exchange = Exchange(std::move(exchange));
  }

  /// The rest of an answer that is of no use is not waited for.
  void StopIfWrong(uint64_t begin) {
    auto found = segments_.find(begin);
    if (found == segments_.end() || (!found->second.wrong && !found->second.ignored_range)) {
      return;
    }
    Soon([this, begin, generation = generation_] {
      if (generation == generation_) {
        Wrong(begin);
      }
    });
  }

  void Wrong(uint64_t begin) {
    Segment& segment = segments_.at(begin);
    if (segment.wrong) {
      return Fail(*segment.wrong);
    }
    Restart(Failure{FailureKind::Network, fmt::format("`{}` was cut, and the server cannot go on in the middle", ShownUri(spec_.uri)), 0, 0}, begin);
  }

  void OnHead(Segment& segment, const HttpHead& head) {
    const RemoteIdentity now = IdentityOf(head);
    if (has_identity_) {
      const std::string difference = Difference(identity_, now);
      if (!difference.empty()) {
        segment.wrong = Failure{FailureKind::Changed, fmt::format("`{}` was changed since it was looked at: {}; run `jobc plan` or `jobc run` again to take it as it is now", ShownUri(spec_.uri), difference), 0, head.status};
        return;
      }
    }
    if (!identity_.known() && segment.at == 0) {
      identity_ = now;
      has_identity_ = true;
      if (contiguous_ == 0 && !hashing_) {
        hash_ = std::make_shared<Sha256>(now.size.value_or(0));
      }
    }
    if (head.status == 206) {
      uint64_t first = 0;
      if (!ReadContentRange(head.Get("content-range"), first) || first != segment.at) {
        segment.wrong = Failure{FailureKind::Refused, fmt::format("`{}`: the server gave other bytes than it was asked for (`{}`)", ShownUri(spec_.uri), head.Get("content-range")), 0, head.status};
      }
    } else if (segment.at != 0 || segments_.size() > 1) {
      segment.ignored_range = true;
    } else if (segment.end == kToTheEnd && now.size) {
      segment.end = *now.size;
    }
  }

  void OnData(Segment& segment, std::string_view bytes) {
    if (segment.wrong || segment.ignored_range || over_) {
      return;
    }
    if (bytes.size() > segment.end - segment.at) {
      segment.wrong = Failure{FailureKind::Refused, fmt::format("`{}`: the server sent more bytes than it said", ShownUri(spec_.uri)), 0, 0};
      return;
    }
    while (!bytes.empty()) {
      const ssize_t count = pwrite(file_->get(), bytes.data(), bytes.size(), static_cast<off_t>(segment.at));
      if (count < 0 && errno == EINTR) {
        continue;
      }
      if (count < 0) {
        const bool full = errno == ENOSPC || errno == EDQUOT;
        segment.wrong = CannotWrite();
        if (full) {
          Forget();  // a full disk helps nobody, and the run has to write down how it ends
        }
        return;
      }
      if (identity_.known()) {
        spec_.part->bytes.Add(segment.at, segment.at + static_cast<uint64_t>(count));
      }
      segment.at += static_cast<uint64_t>(count);
      moved_ += static_cast<uint64_t>(count);
      bytes.remove_prefix(static_cast<size_t>(count));
    }
    if (segment.at - std::max(segment.noted, segment.begin) >= impl_.options.record_bytes) {
      Note(segment);
    }
    Advance();
  }

  void OnEnd(uint64_t begin, const HttpHead& head, const std::string& body, const HttpEnd& end) {
    Segment& segment = segments_.at(begin);
    if (segment.wrong || segment.ignored_range) {
      return Wrong(begin);
    }
    Note(segment);
    const bool success = end.ok() && head.status >= 200 && head.status < 300;
    if (success && (segment.at == segment.end || segment.end == kToTheEnd)) {
      segment.end = segment.at;
      segment.done = true;
      segment.active = false;
      Launch();
      Advance();
      return;
    }
    Failure failure = success      ? Failure{FailureKind::Network, fmt::format("cannot read `{}`: the connection ended before all of it had come", ShownUri(spec_.uri)), 0, 0}
                      : end.ok()   ? storage_->Explain(address_, "read", head, body)
                                   : ExplainEnd(address_, "read", end);
    if (segment.at > segment.begin && !identity_.known()) {
      return Restart(std::move(failure), begin);
    }
    const int64_t delay = segment.retries.Next(failure, segment.at > segment.tried_from);
    if (delay < 0) {
      failure.message += Tried(segment.retries.failed());
      return Fail(std::move(failure));
    }
    AskLater(delay, begin);
  }

  /// From the first byte: what is there cannot be gone on with.
  void Restart(Failure failure, uint64_t begin) {
    Retries retries = segments_.at(begin).retries;
    const int64_t delay = retries.Next(failure, false);
    if (delay < 0) {
      failure.message += Tried(retries.failed());
      return Fail(std::move(failure));
    }
    DropExchanges();
    segments_.clear();
    if (!spec_.expected) {
      identity_ = {};
      has_identity_ = false;
    }
    contiguous_ = hashed_ = moved_ = 0;
    hash_ = std::make_shared<Sha256>(identity_.size.value_or(0));
    ++generation_;
    *spec_.part = {};
    if ((recorded_ && !StartRecord()) || ftruncate(file_->get(), 0) != 0) {
      return Fail(CannotWrite());
    }
    Segment whole{0, identity_.size.value_or(kToTheEnd), 0, std::move(retries)};
    whole.active = true;
    segments_.emplace(0, std::move(whole));
    AskLater(delay, 0);
  }

  /// What is there without a gap, and its hash.
  void Advance() {
    while (!segments_.empty()) {
      Segment& first = segments_.begin()->second;
      contiguous_ = first.at;
      if (!first.done) {
        break;
      }
      segments_.erase(segments_.begin());
    }
    if (identity_.known()) {
      spec_.part->identity = identity_;
    }
    if (hashing_) {
      return;
    }
    const bool all = segments_.empty();
    if (all && hashed_ == contiguous_) {
      return End();
    }
    if (!all && contiguous_ - hashed_ < kHashStep) {
      return;
    }
    const uint64_t to = contiguous_;
    if (all && to - hashed_ <= kHashAtOnce) {
      if (!HashRange(file_->get(), hashed_, to, *hash_)) {
        return Fail(Local(fmt::format("cannot read `{}`: {}", spec_.path, std::strerror(errno == 0 ? EIO : errno))));
      }
      hashed_ = to;
      return End();
    }
    hashing_ = true;
    auto failed = std::make_shared<int>(-1);
    Thread([file = file_, hash = hash_, from = hashed_, to, failed] {
      if (!HashRange(file->get(), from, to, *hash)) {
        *failed = errno;
      }
    }, [this, to, failed, generation = generation_] {
      auto self = shared_from_this();
      hashing_ = false;
      if (generation == generation_) {
        if (*failed >= 0) {
          return Fail(Local(fmt::format("cannot read `{}`: {}", spec_.path, std::strerror(*failed == 0 ? EIO : *failed))));
        }
        hashed_ = to;
      }
      Advance();
    });
  }

  void End() {
    if (identity_.size && *identity_.size != contiguous_) {
      return Fail(Failure{FailureKind::Changed, fmt::format("`{}` should have {} bytes but {} came", ShownUri(spec_.uri), *identity_.size, contiguous_), 0, 0});
    }
    Fetched out;
    out.identity = identity_;
    out.identity.size = contiguous_;
    out.size = contiguous_;
    out.sha256 = hash_->HexDigest();
    Finish(done_, Outcome<Fetched>(std::move(out)));
  }

  void Forget() {
    spec_.part->bytes = {};
    recorded_ = false;
    unlink(spec_.record.c_str());
    if (ftruncate(file_->get(), 0) != 0) {
      unlink(spec_.path.c_str());
    }
  }

  void NoteAll() {
    for (auto& [begin, segment] : segments_) {
      if (!segment.wrong && !segment.ignored_range) {
        Note(segment);
      }
    }
  }

  void Fail(Failure failure) {
    NoteAll();
    Finish(done_, Outcome<Fetched>(std::move(failure)));
  }

  FetchSpec spec_;
  Done done_;
  const Storage* storage_ = nullptr;
  Address address_;
  RemoteIdentity identity_;
  bool has_identity_ = false;
  std::shared_ptr<File> file_;
  FetchRecord record_;
  bool recorded_ = false;
  std::map<uint64_t, Segment> segments_;   ///< by first byte; those that are whole and before all others are gone
  uint64_t contiguous_ = 0;
  uint64_t hashed_ = 0;
  std::shared_ptr<Sha256> hash_;
  bool hashing_ = false;
  uint32_t generation_ = 0;
};

// --- Put --------------------------------------------------------------------

class Transfers::Impl::PutTask : public SmallTask {
 public:
  using Done = std::function<void(Outcome<RemoteIdentity>)>;
  PutTask(Impl& impl, Id id, PutSpec spec, Done done) : SmallTask(impl, id), spec_(std::move(spec)), done_(std::move(done)) {}

  void Start() override {
    Failure failure;
    if (!Open(spec_.uri, failure)) {
      return Fail(std::move(failure));
    }
    if (address_.scheme != Scheme::S3 || address_.key.empty()) {
      return Fail({FailureKind::Refused, fmt::format("`{}` cannot be written: only objects of `s3://BUCKET/…` can", ShownUri(spec_.uri)), 0, 0});
    }
    if (spec_.path.empty()) {
      size_ = spec_.text.size();
      spec_.sha256 = Sha256Hex(spec_.text);
      return PutWhole();
    }
    const int fd = open(spec_.path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) != 0) {
      failure = Local(fmt::format("cannot read `{}`: {}", spec_.path, std::strerror(errno)));
      if (fd >= 0) {
        close(fd);
      }
      return Fail(std::move(failure));
    }
    file_ = std::make_shared<File>(fd);
    if (!S_ISREG(info.st_mode)) {
      return Fail(Local(fmt::format("`{}` is not a regular file", spec_.path)));
    }
    size_ = static_cast<uint64_t>(info.st_size);
    if (size_ > impl_.options.split_above) {
      part_bytes_ = std::max(impl_.options.part_bytes, (size_ + kMostParts - 1) / kMostParts);
      return Begin();
    }
    if (!spec_.sha256.empty()) {
      return PutWhole();
    }
    Digest(0, size_, [this](std::string sha256) {
      spec_.sha256 = std::move(sha256);
      PutWhole();
    });
  }

  void Abandon() override {
    DropExchanges();
    if (!upload_.empty()) {
      impl_.AbortUpload(storage_, address_, upload_, spec_.record);
    }
  }

 private:
  struct Part {
    uint64_t from = 0, to = 0;
    std::string sha256, etag;
    Retries retries;
  };

  void Fail(Failure failure) {
    if (!upload_.empty()) {
      DropExchanges();
      GiveUp();
    }
    Finish(done_, Outcome<RemoteIdentity>(std::move(failure)));
  }

  void GiveUp() {
    impl_.AbortUpload(storage_, address_, upload_, spec_.record);
    upload_.clear();
  }

  void Made() {
    UploadRecord::Remove(spec_.record, upload_);
    upload_.clear();
  }

  void Digest(uint64_t from, uint64_t to, std::function<void(std::string)> then) {
    auto out = std::make_shared<std::pair<std::string, int>>("", 0);
    Thread([file = file_, from, to, out] {
      Sha256 hash(to - from);
      if (HashRange(file->get(), from, to, hash)) {
        out->first = hash.HexDigest();
      } else {
        out->second = errno;
      }
    }, [this, out, then = std::move(then)] {
      auto self = shared_from_this();
      if (out->first.empty()) {
        return Fail(Local(fmt::format("cannot read `{}`: {}", spec_.path, out->second == 0 ? "it became shorter" : std::strerror(out->second))));
      }
      then(std::move(out->first));
    });
  }

  /// A request whose body are bytes of the file.
  HttpRequest WithBody(const ObjectRequest& request, uint64_t from, uint64_t to) {
    HttpRequest out = storage_->Request(request, std::time(nullptr));
    if (file_ == nullptr) {
      out.body = spec_.text;
      return out;
    }
    auto at = std::make_shared<uint64_t>(from);
    out.body_size = to - from;
    out.read = [file = file_, at, to](char* into, size_t size) -> size_t {
      for (;;) {
        const ssize_t count = pread(file->get(), into, static_cast<size_t>(std::min<uint64_t>(size, to - *at)), static_cast<off_t>(*at));
        if (count < 0 && errno == EINTR) {
          continue;
        }
        if (count < 0 || (count == 0 && *at < to)) {
          return kHttpReadFailed;
        }
        *at += static_cast<uint64_t>(count);
        return static_cast<size_t>(count);
      }
    };
    out.rewind = [at, from] {
      *at = from;
      return true;
    };
    return out;
  }

  Failure Explained(const HttpHead& head, const std::string& body, const HttpEnd& end) {
    if (end.failure == HttpFailure::Cancelled) {
      return Local(fmt::format("`{}` became shorter, or could not be read, while it was sent", spec_.path));
    }
    Failure failure = end.ok() ? storage_->Explain(address_, "write", head, body) : ExplainEnd(address_, "write", end);
    if (ReadS3Error(body).code == "XAmzContentSHA256Mismatch" || ReadS3Error(body).code == "BadDigest") {
      failure = Local(fmt::format("`{}` was changed while it was sent, or the network changed it", spec_.path));
    }
    if (head.status == 412) {
      failure.kind = FailureKind::Exists;
      failure.message = fmt::format("`{}` is there already, with another content", spec_.uri);
    }
    return failure;
  }

  Pairs PutHeaders() const {
    Pairs out{{"content-type", "application/octet-stream"}};
    if (!spec_.sha256.empty()) {
      out.emplace_back("x-amz-meta-sha256", spec_.sha256);
    }
    return out;
  }

  // One request.

  void PutWhole() {
    whole_retries_ = Retries(impl_.options.retry, id_ * 31337);
    TryWhole();
  }

  void TryWhole() {
    moved_ = 0;
    Impl::Exchange exchange;
    exchange.make = [this] {
      ObjectRequest request{"PUT", address_, {}, PutHeaders(), spec_.sha256};
      if (spec_.create_only) {
        request.headers.emplace_back("if-none-match", "*");
      }
      return WithBody(request, 0, size_);
    };
    exchange.on_end = [this](const HttpHead& head, const std::string& body, const HttpEnd& end) {
      auto self = shared_from_this();
      if (end.ok() && head.status >= 200 && head.status < 300) {
        moved_ = size_;
        RemoteIdentity identity = IdentityOf(head);
        identity.size = size_;
        return Finish(done_, Outcome<RemoteIdentity>(std::move(identity)));
      }
      Failure failure = Explained(head, body, end);
      if (failure.kind == FailureKind::Exists) {
        return Compare(std::move(failure));
      }
      const int64_t delay = whole_retries_.Next(failure, false);
      if (delay < 0) {
        failure.message += Tried(whole_retries_.failed());
        return Fail(std::move(failure));
      }
      BackOff(delay, [this] { TryWhole(); });
    };
    Exchange(std::move(exchange));
  }

  /// Somebody made it before, or an earlier try of this very request whose answer was lost.
  void Compare(Failure failure) {
    AskFor({{"HEAD", address_, {}, {}}, "look at", "", 1 << 20}, [this, failure](Outcome<Answer> answer) {
      if (answer && !spec_.sha256.empty() && answer->head.Get("x-amz-meta-sha256") == spec_.sha256) {
        moved_ = size_;
        if (!upload_.empty()) {
          GiveUp();
        }
        return Finish(done_, Outcome<RemoteIdentity>(IdentityOf(answer->head)));
      }
      Fail(answer || answer.failure().kind == FailureKind::Missing ? failure : answer.failure());
    });
  }

  // In parts.

  void Begin() {
    for (uint64_t from = 0; from < size_; from += part_bytes_) {
      parts_.push_back({from, std::min(size_, from + part_bytes_), "", "", Retries(impl_.options.retry, id_ * 7 + from)});
    }
    auto found = UploadRecord::Read(spec_.record);
    if (!found || found->uri != spec_.uri) {
      return Create();
    }
    upload_ = found->upload;
    if (*found != UploadRecord{spec_.uri, upload_, spec_.sha256, part_bytes_} || spec_.sha256.empty()) {
      GiveUp();
      return Create();
    }
    FindParts("");
  }

  /// What an upload of this very content has already. Each of its parts was sent with its hash, so it is what was cut from it.
  void FindParts(const std::string& after) {
    ObjectRequest request{"GET", address_, {{"uploadId", upload_}}, {}};
    if (!after.empty()) {
      request.query.emplace_back("part-number-marker", after);
    }
    AskFor({std::move(request), "write", "", 4 << 20}, [this, after](Outcome<Answer> answer) {
      auto found = answer ? ReadParts(answer->body) : Result<S3Parts>(Error{""});
      if (!answer && MayHelp(answer.failure().kind)) {
        upload_.clear();  // it stays for the next time
        return Fail(answer.failure());
      }
      if (!found) {
        GiveUp();  // it is not there any more, or may not be looked at
        for (Part& part : parts_) {
          part.etag.clear();
        }
        return Create();
      }
      for (S3Part& one : found->parts) {
        if (one.number >= 1 && one.number <= parts_.size() && parts_[one.number - 1].to - parts_[one.number - 1].from == one.size) {
          parts_[one.number - 1].etag = std::move(one.etag);
        }
      }
      if (!found->next.empty() && found->next != after) {
        return FindParts(found->next);
      }
      NextParts();
    });
  }

  void Create() {
    ObjectRequest request{"POST", address_, {{"uploads", ""}}, PutHeaders()};
    AskFor({std::move(request), "write", "", 1 << 20}, [this](Outcome<Answer> answer) {
      if (!answer) {
        return Fail(answer.failure());
      }
      auto id = ReadUploadId(answer->body);
      if (!id) {
        return Fail({FailureKind::Refused, fmt::format("`{}`: {}", spec_.uri, id.error().message), 0, answer->head.status});
      }
      upload_ = *std::move(id);
      if (!spec_.sha256.empty()) {
        UploadRecord{spec_.uri, upload_, spec_.sha256, part_bytes_}.Write(spec_.record);
      }
      NextParts();
    });
  }

  void NextParts() {
    while (active_ < impl_.options.parts_at_once && next_ < parts_.size()) {
      const size_t index = next_++;
      if (!parts_[index].etag.empty()) {
        moved_ += parts_[index].to - parts_[index].from;
        continue;
      }
      ++active_;
      Digest(parts_[index].from, parts_[index].to, [this, index](std::string sha256) {
        parts_[index].sha256 = std::move(sha256);
        TryPart(index);
      });
    }
    if (active_ == 0 && next_ == parts_.size()) {
      Complete();
    }
  }

  void TryPart(size_t index) {
    Impl::Exchange exchange;
    exchange.make = [this, index] {
      const Part& part = parts_[index];
      return WithBody({"PUT", address_, {{"partNumber", std::to_string(index + 1)}, {"uploadId", upload_}}, {}, part.sha256}, part.from, part.to);
    };
    exchange.on_end = [this, index](const HttpHead& head, const std::string& body, const HttpEnd& end) {
      auto self = shared_from_this();
      Part& part = parts_[index];
      if (end.ok() && head.status >= 200 && head.status < 300) {
        part.etag = head.Get("etag");
        if (part.etag.empty()) {
          return Fail({FailureKind::Refused, fmt::format("`{}`: the server gave no etag for a part", spec_.uri), 0, head.status});
        }
        moved_ += part.to - part.from;
        --active_;
        return NextParts();
      }
      Failure failure = Explained(head, body, end);
      const int64_t delay = part.retries.Next(failure, false);
      if (delay < 0) {
        failure.message += Tried(part.retries.failed());
        return Fail(std::move(failure));
      }
      BackOff(delay, [this, index] { TryPart(index); });
    };
    Exchange(std::move(exchange));
  }

  void Complete() {
    std::string body = "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">";
    for (size_t i = 0; i < parts_.size(); ++i) {
      body += fmt::format("<Part><PartNumber>{}</PartNumber><ETag>{}</ETag></Part>", i + 1, XmlEscape(parts_[i].etag));
    }
    body += "</CompleteMultipartUpload>";
    ObjectRequest request{"POST", address_, {{"uploadId", upload_}}, {{"content-type", "application/xml"}}, Sha256Hex(body)};
    if (spec_.create_only) {
      request.headers.emplace_back("if-none-match", "*");
    }
    AskFor({std::move(request), "write", std::move(body), 1 << 20}, [this](Outcome<Answer> answer) {
      // Servers begin to answer before they know: an error may come with status 200.
      const S3Error error = answer ? ReadS3Error(answer->body) : S3Error();
      if (answer && error.code.empty()) {
        Made();
        RemoteIdentity identity = IdentityOf(answer->head);
        if (auto root = ParseXml(answer->body)) {
          identity.etag = root->Text("ETag");
        }
        identity.size = size_;
        return Finish(done_, Outcome<RemoteIdentity>(std::move(identity)));
      }
      Failure failure = answer ? Failure{FailureKind::Refused, fmt::format("`{}`: the server did not put the parts together ({}: {})", spec_.uri, error.code, error.message), 0, 200} : answer.failure();
      if (failure.status == 412) {
        failure.kind = FailureKind::Exists;
        failure.message = fmt::format("`{}` is there already, with another content", spec_.uri);
        return Compare(std::move(failure));
      }
      if (failure.status == 404) {
        // The upload is not known any more: it was completed by a try whose answer was lost, or removed.
        return CheckMade(std::move(failure));
      }
      Fail(std::move(failure));
    });
  }

  void CheckMade(Failure failure) {
    AskFor({{"HEAD", address_, {}, {}}, "look at", "", 1 << 20}, [this, failure](Outcome<Answer> answer) {
      if (answer && answer->head.Get("x-amz-meta-sha256") == spec_.sha256 && IdentityOf(answer->head).size == size_) {
        Made();
        return Finish(done_, Outcome<RemoteIdentity>(IdentityOf(answer->head)));
      }
      Fail(failure);
    });
  }

  PutSpec spec_;
  Done done_;
  std::shared_ptr<File> file_;
  uint64_t size_ = 0;
  Retries whole_retries_;
  uint64_t part_bytes_ = 0;
  std::string upload_;
  std::vector<Part> parts_;
  size_t next_ = 0;
  uint32_t active_ = 0;
};

// --- Transfers --------------------------------------------------------------

Transfers::Transfers(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Transfers::~Transfers() = default;

Result<std::unique_ptr<Transfers>> Transfers::Create(uv_loop_t* loop, TransferOptions options) {
  auto http = HttpClient::Create(loop);
  if (!http) {
    return http.error();
  }
  auto impl = std::make_unique<Impl>(loop, std::move(options));
  impl->http = *std::move(http);
  return std::unique_ptr<Transfers>(new Transfers(std::move(impl)));
}

Transfers::Id Transfers::Head(const std::string& uri, std::function<void(Outcome<RemoteIdentity>)> done) { return impl_->Add<Impl::HeadTask>(uri, std::move(done)); }
Transfers::Id Transfers::Fetch(FetchSpec spec, std::function<void(Outcome<Fetched>)> done) { return impl_->Add<Impl::FetchTask>(std::move(spec), std::move(done)); }
Transfers::Id Transfers::Put(PutSpec spec, std::function<void(Outcome<RemoteIdentity>)> done) { return impl_->Add<Impl::PutTask>(std::move(spec), std::move(done)); }
Transfers::Id Transfers::Read(const std::string& uri, uint64_t most, std::function<void(Outcome<std::string>)> done) {
  return impl_->Add<Impl::ReadTask>(uri, most, std::move(done));
}
Transfers::Id Transfers::List(const std::string& uri, const std::string& after, std::function<void(Outcome<ListPage>)> done) {
  return impl_->Add<Impl::ListTask>(uri, after, std::move(done));
}
Transfers::Id Transfers::Delete(const std::string& uri, std::function<void(Outcome<bool>)> done) { return impl_->Add<Impl::DeleteTask>(uri, std::move(done)); }

void Transfers::Cancel(Id id) {
  auto found = impl_->tasks.find(id);
  if (found == impl_->tasks.end()) {
    return;
  }
  auto task = found->second;
  impl_->tasks.erase(found);
  task->over_ = true;
  task->Abandon();
}

uint64_t Transfers::Moved(Id id) const {
  auto found = impl_->tasks.find(id);
  return found == impl_->tasks.end() ? 0 : found->second->moved();
}

}  // namespace jobc::storage

#include "storage/remote_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <deque>
#include <map>
#include <set>
#include <unordered_map>

#include "ir/file_path.h"
#include "ir/json.h"
#include "runtime/process/os.h"
#include "runtime/results.h"
#include "runtime/state_dir.h"
#include "storage/identify.h"
#include "storage/tree.h"
#include "storage/uri.h"
#include "support/sha256.h"

namespace jobc::storage {
namespace {

/// Transfers under way at a time: each has a file open.
constexpr size_t kMostAtOnce = 64;
/// Objects of one staged attempt.
constexpr uint64_t kMostStaged = 1'000'000;
constexpr uint64_t kMostManifest = uint64_t{256} << 20;

/// A file as it was when its content was known to be right.
struct Stamp {
  int64_t size = 0, mtime_ns = 0, inode = 0;
  friend bool operator==(const Stamp&, const Stamp&) = default;
};

std::optional<Stamp> StampOf(const std::string& path) {
  struct stat info;
  if (lstat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return std::nullopt;
  }
  return Stamp{info.st_size, info.st_mtim.tv_sec * 1'000'000'000LL + info.st_mtim.tv_nsec, static_cast<int64_t>(info.st_ino)};
}

/// A row of store/known/.
struct Known {
  std::string sha256;
  Stamp stamp;
  std::string boot;  ///< of the machine: what was written before a power loss may not be there
};

std::optional<Known> ReadKnown(const std::string& path) {
  auto text = process::ReadFile(path);
  auto json = text ? ir::ParseJson(*text) : Result<ir::Value>(Error{""});
  if (!json || json->kind() != ir::ValueKind::Map) {
    return std::nullopt;
  }
  auto word = [&](const char* name) {
    const ir::Value* found = json->Find(name);
    return found != nullptr && found->kind() == ir::ValueKind::String ? found->as_string() : std::string();
  };
  auto number = [&](const char* name) {
    const ir::Value* found = json->Find(name);
    return found != nullptr && found->kind() == ir::ValueKind::Int ? found->as_int() : -1;
  };
  Known out{word("sha256"), {number("size"), number("mtime_ns"), number("inode")}, word("boot")};
  return out.sha256.size() == 64 ? std::optional<Known>(std::move(out)) : std::nullopt;
}

class RemoteStore : public RemoteFiles {
 public:
  RemoteStore(const RemoteFilesHost& host, std::unique_ptr<Transfers> transfers, uint64_t record_above)
      : loop_(host.loop), run_id_(host.run_id), state_dir_(host.state_dir), dir_(host.state_dir + "/store"), record_above_(record_above), transfers_(std::move(transfers)) {
    auto boot = process::ReadFile("/proc/sys/kernel/random/boot_id");
    boot_ = boot ? boot->substr(0, boot->find('\n')) : "";
  }

  ~RemoteStore() override {
    *alive_ = false;
    transfers_.reset();
    // What has a record is gone on with, by this run or another one.
    for (const auto& [key, flight] : flights_) {
      parts_.emplace(key, nullptr);
    }
    for (const auto& [key, part] : parts_) {
      if (access(RecordPath(key).c_str(), F_OK) != 0) {
        unlink(PartPath(key).c_str());
      }
    }
  }

  std::string Find(const RemoteFile& file) override {
    const std::string key = KeyOf(file);
    if (IsTreeUri(file.uri)) {
      return FindTree(key);
    }
    auto& found = here_[key];
    if (found.first.empty()) {
      auto known = ReadKnown(dir_ + "/known/" + key);
      if (!known || known->boot != boot_) {
        return "";
      }
      found = {ContentPath(known->sha256), known->stamp};
    }
    if (StampOf(found.first) != found.second) {
      found = {};
      return "";
    }
    return found.first;
  }

  Ticket Want(const std::vector<RemoteFile>& files, Done done) override {
    const Ticket ticket = ++last_ticket_;
    Waiting& waiting = waiting_[ticket];
    waiting.done = std::move(done);
    for (const RemoteFile& file : files) {
      const std::string key = KeyOf(file);
      if (!waiting.keys.insert(key).second) {
        continue;
      }
      auto& flight = flights_[key];
      if (flight == nullptr) {
        flight = std::make_shared<Flight>();
        flight->file = file;
        flight->key = key;
        flight->path = PartPath(key);
        queue_.push_back(key);
      }
      flight->tickets.insert(ticket);
    }
    StartSome();
    return ticket;
  }

  void Drop(Ticket ticket) override {
    auto found = waiting_.find(ticket);
    if (found == waiting_.end()) {
      return DropPublication(ticket);
    }
    const std::set<std::string> keys = std::move(found->second.keys);
    waiting_.erase(found);
    for (const std::string& key : keys) {
      auto flight = flights_.find(key);
      if (flight != flights_.end() && flight->second->tickets.erase(ticket) != 0 && flight->second->tickets.empty() && !flight->second->installing) {
        std::shared_ptr<Flight> given_up = flight->second;
        if (given_up->transfer != 0) {
          transfers_->Cancel(given_up->transfer);
        }
        if (given_up->listing != nullptr && *given_up->listing != 0) {
          transfers_->Cancel(*given_up->listing);
        }
        active_ -= given_up->active ? 1 : 0;
        flights_.erase(flight);
        if (given_up->children != 0) {
          Drop(given_up->children);
        }
      }
    }
    StartSome();
  }

  Ticket PublishTo(const std::string& destination, std::vector<PublishItem> items, bool prune, Done done) override;
  Ticket StageTo(const StagedSet& set, Done done) override;

 private:
  struct Flight {
    RemoteFile file;
    std::string key, path;
    std::set<Ticket> tickets;
    Transfers::Id transfer = 0;
    bool active = false;
    bool installing = false;  ///< a thread works for it: it is not given up any more
    std::shared_ptr<Transfers::Id> listing;  ///< of a directory: the request for a page of its list
    Ticket children = 0;      ///< of a directory: its files are being brought
    RemoteTree tree;
  };
  struct Waiting {
    std::set<std::string> keys;
    Done done;
  };
  struct Publication;
  struct StagingOut;
  void DropPublication(Ticket ticket);

  std::string KeyOf(const RemoteFile& file) const {
    const bool named = !file.etag.empty() || !file.version.empty();
    return Sha256Hex(named ? file.uri + "\n" + file.etag + "\n" + file.version : file.uri + "\nrun " + run_id_);
  }
  std::string ContentPath(const std::string& sha256) const { return dir_ + "/content/" + sha256.substr(0, 2) + "/" + sha256; }
  std::string PartPath(const std::string& key) const { return dir_ + "/part/" + key + "." + run_id_; }

  std::string RecordPath(const std::string& key) const { return PartPath(key) + ".had"; }

  /// Where the upload of a large file is kept while it is under way; also one that a run that is over left.
  std::string UploadPath(const std::string& uri, uint64_t size) {
    if (size <= record_above_) {
      return "";
    }
    const std::string key = Sha256Hex(uri);
    TakeOver(dir_ + "/upload", key);
    return dir_ + "/upload/" + key + "." + run_id_;
  }

  /// What runs that nobody executes any more had of it becomes this run's: files `KEY.RUN` and `KEY.RUN.had` of `dir`.
  void TakeOver(const std::string& dir, const std::string& key) {
    const std::string own = dir + "/" + key + "." + run_id_;
    DIR* stream = access(own.c_str(), F_OK) == 0 ? nullptr : opendir(dir.c_str());
    if (stream == nullptr) {
      return;
    }
    std::set<std::string> runs;
    while (dirent* entry = readdir(stream)) {
      const std::string_view name = entry->d_name;
      if (name.starts_with(key + ".")) {
        const std::string_view run = name.substr(key.size() + 1);
        runs.emplace(run.substr(0, run.find('.')));
      }
    }
    closedir(stream);
    for (const std::string& run : runs) {
      const std::string theirs = dir + "/" + key + "." + run;
      if (run == run_id_ || RunLock::Holder(RunDir(state_dir_, run))) {
        continue;
      }
      // The record first: without its bytes it counts for nothing.
      rename((theirs + ".had").c_str(), (own + ".had").c_str());
      if (rename(theirs.c_str(), own.c_str()) == 0) {
        return;
      }
    }
  }

  void Thread(std::function<void()> run, std::function<void()> then) {
    struct Work {
      uv_work_t request{};
      std::shared_ptr<bool> alive;
      std::function<void()> run, then;
    };
    auto* work = new Work{{}, alive_, std::move(run), std::move(then)};
    work->request.data = work;
    JOBC_CHECK(uv_queue_work(loop_, &work->request, [](uv_work_t* request) { static_cast<Work*>(request->data)->run(); },
                             [](uv_work_t* request, int) {
      std::unique_ptr<Work> self(static_cast<Work*>(request->data));
      if (*self->alive) {
        self->then();
      }
    }) == 0);
  }

  void StartSome() {
    while (active_ < kMostAtOnce && !queue_.empty()) {
      auto found = flights_.find(queue_.front());
      queue_.pop_front();
      if (found == flights_.end() || found->second->active) {
        continue;
      }
      found->second->active = true;
      ++active_;
      Start(found->second);
    }
  }

  // -- Directories ---------------------------------------------------------------

  /// What a tree of the store looks like from outside: paths, sizes, times, inodes. Empty: something in it is not as it should be.
  static std::string LookOfTree(const std::string& root) {
    Sha256 hash;
    std::vector<std::string> open{""};
    while (!open.empty()) {
      const std::string below = std::move(open.back());
      open.pop_back();
      std::vector<std::string> names;
      DIR* dir = opendir((root + below).c_str());
      if (dir == nullptr) {
        return "";
      }
      while (dirent* entry = readdir(dir)) {
        if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0) {
          names.emplace_back(entry->d_name);
        }
      }
      closedir(dir);
      std::sort(names.begin(), names.end());
      for (const std::string& name : names) {
        const std::string path = below + "/" + name;
        struct stat info;
        if (lstat((root + path).c_str(), &info) != 0 || (!S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode))) {
          return "";
        }
        if (S_ISDIR(info.st_mode)) {
          open.push_back(path);
          hash.Update(path + "/\n");
        } else {
          hash.Update(fmt::format("{}\n{} {} {}\n", path, info.st_size, info.st_mtim.tv_sec * 1'000'000'000LL + info.st_mtim.tv_nsec, info.st_ino));
        }
      }
    }
    return hash.HexDigest();
  }

  std::string FindTree(const std::string& key) {
    struct stat info;
    if (auto found = trees_.find(key); found != trees_.end()) {
      if (lstat(found->second.c_str(), &info) == 0) {
        return found->second;
      }
      trees_.erase(found);
      return "";
    }
    auto text = process::ReadFile(dir_ + "/known/" + key);
    auto json = text ? ir::ParseJson(*text) : Result<ir::Value>(Error{""});
    if (!json || json->kind() != ir::ValueKind::Map) {
      return "";
    }
    auto word = [&](const char* name) {
      const ir::Value* found = json->Find(name);
      return found != nullptr && found->kind() == ir::ValueKind::String ? found->as_string() : std::string();
    };
    const std::string place = dir_ + "/tree/" + word("tree");
    if (word("tree").empty() || word("tree").find("..") != std::string::npos || word("boot") != boot_ || word("look").empty() || LookOfTree(place) != word("look")) {
      return "";
    }
    // When it was used last: `jobc gc` goes by it.
    (void)utimensat(AT_FDCWD, place.substr(0, place.rfind('/')).c_str(), nullptr, 0);
    trees_[key] = place;
    return place;
  }

  /// What it holds now, then each of its files, then the directory.
  void StartTree(std::shared_ptr<Flight> flight) {
    flight->listing = std::make_shared<Transfers::Id>(0);
    ListAll(*transfers_, flight->file.uri, kMostTreeFiles, flight->listing, [this, flight](Outcome<std::vector<ListPage::Object>> entries) {
      auto tree = entries ? ReadTree(flight->file.uri, *entries) : Outcome<RemoteTree>(entries.failure());
      if (!tree) {
        return End(flight->key, FailureOf(tree.failure()));
      }
      if (!flight->file.etag.empty() && tree->identity.etag != flight->file.etag) {
        return End(flight->key, RemoteFailure{ir::ErrorKind::Staging, fmt::format("`{}` was changed since it was looked at: it holds other objects now; run `jobc plan` or `jobc run` again to take it as it is now", flight->file.uri), true});
      }
      flight->tree = *std::move(tree);
      // Its files take their turns themselves.
      active_ -= flight->active ? 1 : 0;
      flight->active = false;
      const std::vector<RemoteFile> files = FilesOf(*flight);
      std::vector<RemoteFile> missing;
      for (const RemoteFile& file : files) {
        if (Find(file).empty()) {
          missing.push_back(file);
        }
      }
      if (missing.empty()) {
        return MakeTree(flight);
      }
      flight->children = Want(missing, [this, flight](std::optional<RemoteFailure> failure) {
        flight->children = 0;
        if (failure) {
          return End(flight->key, std::move(failure));
        }
        MakeTree(flight);
      });
    });
  }

  static std::vector<RemoteFile> FilesOf(const Flight& flight) {
    std::vector<RemoteFile> out;
    for (const TreeFile& file : flight.tree.files) {
      out.push_back({file.uri, file.etag, "", file.size});
    }
    return out;
  }

  /// Other names for the contents in the store, below a directory of its own.
  void MakeTree(std::shared_ptr<Flight> flight) {
    const std::string name = fmt::format("{}-{}-{}", flight->key.substr(0, 24), run_id_, ++last_tree_);
    const std::string place = name + "/" + std::string(ir::PathBasename(flight->file.uri));
    auto links = std::make_shared<std::vector<std::pair<std::string, std::string>>>();
    for (const TreeFile& file : flight->tree.files) {
      std::string content = Find({file.uri, file.etag, "", file.size});
      if (content.empty()) {
        return End(flight->key, RemoteFailure{ir::ErrorKind::Staging, fmt::format("`{}` was removed from the state directory while it was needed", file.uri), false});
      }
      links->emplace_back(file.path, std::move(content));
    }
    auto problem = std::make_shared<std::string>();
    auto look = std::make_shared<std::string>();
    flight->installing = true;
    Thread([root = dir_ + "/tree/" + place, links, dirs = flight->tree.dirs, problem, look] {
      std::set<std::string> made;
      auto make = [&](const std::string& path) {
        if (made.insert(path).second) {
          if (auto done = process::MakeDirectories(path); !done) {
            *problem = done.error().message;
          }
        }
        return problem->empty();
      };
      if (!make(root)) {
        return;
      }
      for (const std::string& dir : dirs) {
        if (!make(root + "/" + dir)) {
          return;
        }
      }
      for (const auto& [path, content] : *links) {
        const std::string target = root + "/" + path;
        if (!make(target.substr(0, target.rfind('/')))) {
          return;
        }
        if (link(content.c_str(), target.c_str()) == 0) {
          continue;
        }
        if (auto copied = CopyTree(content, target, false); !copied) {
          *problem = copied.error().message;
          return;
        }
      }
      // From below: nothing is added to it, or taken away, any more.
      for (auto dir = made.rbegin(); dir != made.rend(); ++dir) {
        for (std::string at = *dir; at.size() >= root.size(); at = at.substr(0, at.rfind('/'))) {
          (void)chmod(at.c_str(), 0555);
        }
      }
      *look = LookOfTree(root);
    }, [this, flight, place, problem, look] {
      flight->installing = false;
      if (problem->empty()) {
        const std::string row = fmt::format("{{\"uri\":{},\"etag\":{},\"tree\":{},\"look\":\"{}\",\"boot\":{}}}\n", ir::JsonQuote(flight->file.uri), ir::JsonQuote(flight->file.etag), ir::JsonQuote(place), *look, ir::JsonQuote(boot_));
        *problem = PutKnown(flight->key, row);
      }
      if (!problem->empty()) {
        return End(flight->key, RemoteFailure{ir::ErrorKind::Staging, *problem, false});
      }
      trees_[flight->key] = dir_ + "/tree/" + place;
      End(flight->key, std::nullopt);
    });
  }

  /// Empty, or why it could not be written.
  std::string PutKnown(const std::string& key, const std::string& row) {
    const std::string path = dir_ + "/known/" + key;
    const std::string staged = path + "." + run_id_;
    if (auto made = process::MakeDirectories(dir_ + "/known"); !made) {
      return made.error().message;
    }
    process::UniqueFd fd(open(staged.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (!fd || write(fd.get(), row.data(), row.size()) != static_cast<ssize_t>(row.size()) || rename(staged.c_str(), path.c_str()) != 0) {
      return fmt::format("cannot write `{}`: {}", path, std::strerror(errno));
    }
    return "";
  }

  void Start(std::shared_ptr<Flight> flight) {
    if (IsTreeUri(flight->file.uri)) {
      return StartTree(std::move(flight));
    }
    // Known from before the machine was started anew: what is there is right if its hash is.
    auto known = ReadKnown(dir_ + "/known/" + flight->key);
    if (known && StampOf(ContentPath(known->sha256))) {
      auto same = std::make_shared<bool>(false);
      flight->installing = true;
      Thread([path = ContentPath(known->sha256), sha256 = known->sha256, same] {
        auto digest = Sha256OfFile(path);
        *same = digest && digest->sha256 == sha256;
      }, [this, flight, same, sha256 = known->sha256] {
        flight->installing = false;
        if (auto stamp = *same ? Remember(dir_, flight->file, flight->key, run_id_, boot_, ContentPath(sha256), sha256) : Result<Stamp>(Error{""})) {
          here_[flight->key] = {ContentPath(sha256), *stamp};
          return End(flight->key, std::nullopt);
        }
        Fetch(flight);
      });
      return;
    }
    Fetch(std::move(flight));
  }

  void Fetch(std::shared_ptr<Flight> flight) {
    if (flight->tickets.empty()) {
      return End(flight->key, std::nullopt);
    }
    for (const char* below : {"/content", "/known", "/part"}) {
      if (made_directories_) {
        break;
      }
      if (auto made = process::MakeDirectories(dir_ + below); !made) {
        const std::string why = made.error().message;
        Thread([] {}, [this, flight, why] { End(flight->key, RemoteFailure{ir::ErrorKind::Staging, why, false}); });
        return;
      }
    }
    made_directories_ = true;
    FetchSpec spec;
    spec.uri = flight->file.uri;
    spec.path = flight->path;
    if (!flight->file.etag.empty() || !flight->file.version.empty()) {
      spec.expected = RemoteIdentity{flight->file.etag, flight->file.version, flight->file.size};
    }
    auto& part = parts_[flight->key];
    if (part == nullptr) {
      part = std::make_shared<FetchedPart>();
    }
    spec.part = part;
    if (spec.expected && spec.expected->size.value_or(0) > record_above_) {
      spec.record = RecordPath(flight->key);
      TakeOver(dir_ + "/part", flight->key);
    }
    flight->transfer = transfers_->Fetch(std::move(spec), [this, flight](Outcome<Fetched> got) {
      flight->transfer = 0;
      if (!got) {
        return End(flight->key, FailureOf(got.failure()));
      }
      Install(flight, *got);
    });
  }

  static RemoteFailure FailureOf(const Failure& failure) {
    RemoteFailure out;
    out.message = failure.message;
    switch (failure.kind) {
      case FailureKind::Network:
      case FailureKind::Busy: out.kind = ir::ErrorKind::Network; break;
      case FailureKind::Auth:
        out.kind = ir::ErrorKind::Auth;
        out.no_retry = true;
        break;
      case FailureKind::Local: break;
      default: out.no_retry = true; break;
    }
    return out;
  }

  /// From its part to its place, and into what is known. Beside the loop: the file system takes its time, and an older file of
  /// that name is read to the end.
  void Install(std::shared_ptr<Flight> flight, const Fetched& got) {
    flight->installing = true;
    auto problem = std::make_shared<std::string>();
    auto stamp = std::make_shared<Stamp>();
    Thread([this_dir = dir_, file = flight->file, key = flight->key, run = run_id_, boot = boot_, from = flight->path, record = got.size > record_above_ ? RecordPath(flight->key) : "", to = ContentPath(got.sha256), sha256 = got.sha256, problem, stamp] {
      auto failed = [&](const char* doing) { *problem = fmt::format("cannot {} `{}`: {}", doing, to, std::strerror(errno)); };
      struct stat info;
      if (stat(from.c_str(), &info) != 0 || ((info.st_mode & 07777) != 0444 && chmod(from.c_str(), 0444) != 0)) {
        return failed("write");
      }
      // Never over a file that is right: somebody may be reading it, and look at its inode.
      auto put = [&] { return renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0; };
      bool done = put();
      if (!done && errno == ENOENT && (mkdir(to.substr(0, to.rfind('/')).c_str(), 0777) == 0 || errno == EEXIST)) {
        done = put();
      }
      if (!done && errno == EINVAL) {  // a file system without RENAME_NOREPLACE
        done = link(from.c_str(), to.c_str()) == 0;
        if (done) {
          unlink(from.c_str());
        }
      }
      if (!done && errno != EEXIST) {
        return failed("create");
      }
      if (!done) {
        auto digest = Sha256OfFile(to);
        if (digest && digest->sha256 == sha256) {
          unlink(from.c_str());
        } else if (rename(from.c_str(), to.c_str()) != 0) {
          return failed("replace");
        }
      }
      if (!record.empty()) {
        unlink(record.c_str());
      }
      if (auto known = Remember(this_dir, file, key, run, boot, to, sha256)) {
        *stamp = *known;
      } else {
        *problem = known.error().message;
      }
    }, [this, flight, problem, stamp, sha256 = got.sha256] {
      flight->installing = false;
      parts_.erase(flight->key);
      if (!problem->empty()) {
        return End(flight->key, RemoteFailure{ir::ErrorKind::Staging, *problem, false});
      }
      here_[flight->key] = {ContentPath(sha256), *stamp};
      End(flight->key, std::nullopt);
    });
  }

  /// Writes which content the address had. For any thread.
  static Result<Stamp> Remember(const std::string& dir, const RemoteFile& file, const std::string& key, const std::string& run, const std::string& boot, const std::string& content, const std::string& sha256) {
    auto stamp = StampOf(content);
    if (!stamp) {
      return Error{fmt::format("`{}` is gone", content), ENOENT};
    }
    const std::string row = fmt::format("{{\"uri\":{},\"etag\":{},\"version\":{},\"sha256\":\"{}\",\"size\":{},\"mtime_ns\":{},\"inode\":{},\"boot\":{}}}\n", ir::JsonQuote(ShownUri(file.uri)),
                                        ir::JsonQuote(file.etag), ir::JsonQuote(file.version), sha256, stamp->size, stamp->mtime_ns, stamp->inode, ir::JsonQuote(boot));
    const std::string path = dir + "/known/" + key;
    auto write_to = [&](const std::string& name, int flags) {
      process::UniqueFd fd(open(name.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0666));
      return fd && write(fd.get(), row.data(), row.size()) == static_cast<ssize_t>(row.size());
    };
    // Half a row is none, and is written anew: only one that is there has to be replaced as a whole.
    if (!write_to(path, O_EXCL)) {
      const std::string staged = path + "." + run;
      if (!write_to(staged, O_TRUNC) || rename(staged.c_str(), path.c_str()) != 0) {
        return Error{fmt::format("cannot write `{}`: {}", path, std::strerror(errno)), errno};
      }
    }
    return *stamp;
  }

  /// All that waited for it are told, those that now have everything or that this failed.
  void End(const std::string& key, std::optional<RemoteFailure> failure) {
    auto found = flights_.find(key);
    if (found == flights_.end()) {
      return;
    }
    const std::set<Ticket> tickets = std::move(found->second->tickets);
    active_ -= found->second->active ? 1 : 0;
    flights_.erase(found);
    std::vector<Done> ready;
    for (Ticket ticket : tickets) {
      auto waiting = waiting_.find(ticket);
      if (waiting == waiting_.end()) {
        continue;
      }
      waiting->second.keys.erase(key);
      if (failure || waiting->second.keys.empty()) {
        ready.push_back(std::move(waiting->second.done));
        Drop(ticket);
      }
    }
    StartSome();
    auto alive = alive_;
    for (Done& done : ready) {
      if (*alive) {
        done(failure);
      }
    }
  }

  uv_loop_t* loop_;
  std::string run_id_, state_dir_, dir_, boot_;
  uint64_t record_above_;
  std::unique_ptr<Transfers> transfers_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  Ticket last_ticket_ = 0;
  std::map<Ticket, Waiting> waiting_;
  std::map<Ticket, std::weak_ptr<Publication>> publications_;
  std::map<Ticket, std::weak_ptr<StagingOut>> stagings_;
  std::unordered_map<std::string, std::shared_ptr<Flight>> flights_;  ///< by key
  std::deque<std::string> queue_;
  size_t active_ = 0;
  bool made_directories_ = false;
  std::unordered_map<std::string, std::shared_ptr<FetchedPart>> parts_;  ///< of fetches that failed: the next one goes on
  std::unordered_map<std::string, std::string> trees_;  ///< directories that are known to be here, by key
  uint64_t last_tree_ = 0;
  std::unordered_map<std::string, std::pair<std::string, Stamp>> here_;  ///< known to be here, by key
};

/// One publication: the files, then the manifest, then what the one before had more.
struct RemoteStore::Publication : public std::enable_shared_from_this<RemoteStore::Publication> {
  RemoteStore* store = nullptr;
  std::string destination;
  std::vector<PublishItem> items;
  bool prune = false;
  Done done;
  std::vector<PublishedFile> files;
  std::vector<std::string> before;
  size_t next = 0, under_way = 0, removed = 0;
  bool over = false;
  std::set<Transfers::Id> transfers;

  std::string Uri(const std::string& path) const { return JoinUri(destination, path); }

  void Stop() {
    over = true;
    for (Transfers::Id id : transfers) {
      store->transfers_->Cancel(id);
    }
    transfers.clear();
  }

  void Fail(std::string message) {
    if (over) {
      return;
    }
    Stop();
    done(RemoteFailure{ir::ErrorKind::Publish, std::move(message) + "; the manifest there is still the old one", false});
  }

  void Begin() {
    auto self = shared_from_this();
    auto problem = std::make_shared<std::string>();
    store->Thread([self, problem] {
      auto all = FilesOfItems(self->items);
      if (!all) {
        *problem = all.error().message;
      } else {
        self->files = *std::move(all);
      }
    }, [self, problem] {
      if (self->over) {
        return;
      }
      if (!problem->empty()) {
        return self->Fail(*problem);
      }
      if (!self->prune) {
        return self->Put();
      }
      self->store->transfers_->Read(self->Uri(kPublishManifest), kMostManifest, [self](Outcome<std::string> text) {
        if (self->over) {
          return;
        }
        if (!text && text.failure().kind != FailureKind::Missing) {
          return self->Fail(text.failure().message);
        }
        if (text) {
          self->before = PathsOfManifest(*text);
        }
        self->Put();
      });
    });
  }

  void Put() {
    auto self = shared_from_this();
    while (!over && under_way < kMostAtOnce && next < files.size()) {
      const PublishedFile& file = files[next++];
      ++under_way;
      auto id = std::make_shared<Transfers::Id>(0);
      *id = store->transfers_->Put({file.source, "", Uri(file.path), file.sha256, false, store->UploadPath(Uri(file.path), file.size)}, [self, id](Outcome<RemoteIdentity> put) {
        self->transfers.erase(*id);
        --self->under_way;
        if (!put) {
          return self->Fail(put.failure().message);
        }
        self->Put();
      });
      transfers.insert(*id);
    }
    if (!over && under_way == 0 && next == files.size()) {
      ++next;  // once
      store->transfers_->Put({"", ManifestText(store->run_id_, files), Uri(kPublishManifest), "", false}, [self](Outcome<RemoteIdentity> put) {
        if (self->over) {
          return;
        }
        if (!put) {
          return self->Fail(put.failure().message);
        }
        std::set<std::string> now;
        for (const PublishedFile& file : self->files) {
          now.insert(file.path);
        }
        std::erase_if(self->before, [&](const std::string& path) { return now.count(path) != 0; });
        self->Prune();
      });
    }
  }

  void Prune() {
    auto self = shared_from_this();
    if (removed == before.size()) {
      over = true;
      return done(std::nullopt);
    }
    store->transfers_->Delete(Uri(before[removed++]), [self](Outcome<bool> gone) {
      if (self->over) {
        return;
      }
      if (!gone) {
        self->over = true;
        return self->done(RemoteFailure{ir::ErrorKind::Publish, "everything is published, but a file of the one before could not be removed: " + gone.failure().message, false});
      }
      self->Prune();
    });
  }
};

RemoteFiles::Ticket RemoteStore::PublishTo(const std::string& destination, std::vector<PublishItem> items, bool prune, Done done) {
  auto publication = std::make_shared<Publication>();
  publication->store = this;
  publication->destination = destination;
  publication->items = std::move(items);
  publication->prune = prune;
  publication->done = std::move(done);
  publication->Begin();
  publications_[++last_ticket_] = publication;
  return last_ticket_;
}

/// What one attempt was given and left: the manifest, so that it is known whose this is, the files, the manifest again.
struct RemoteStore::StagingOut : public std::enable_shared_from_this<RemoteStore::StagingOut> {
  RemoteStore* store = nullptr;
  Ticket ticket = 0;
  std::string base, first, last;
  std::vector<StagedFile> files;
  Done done;
  size_t next = 0, under_way = 0;
  bool over = false;
  std::set<Transfers::Id> transfers;

  void Stop() {
    over = true;
    for (Transfers::Id id : transfers) {
      store->transfers_->Cancel(id);
    }
    transfers.clear();
  }

  void End(std::optional<RemoteFailure> failure) {
    Stop();
    store->stagings_.erase(ticket);
    done(std::move(failure));
  }

  void Put(PutSpec spec, std::function<void()> then) {
    ++under_way;
    auto id = std::make_shared<Transfers::Id>(0);
    *id = store->transfers_->Put(std::move(spec), [self = shared_from_this(), id, then = std::move(then)](Outcome<RemoteIdentity> put) {
      self->transfers.erase(*id);
      --self->under_way;
      if (self->over) {
        return;
      }
      if (!put) {
        return self->End(FailureOf(put.failure()));
      }
      then();
    });
    transfers.insert(*id);
  }

  void Begin() {
    auto self = shared_from_this();
    Put({"", first, JoinUri(base, kStagedManifest), Sha256Hex(first), false}, [self] { self->PutFiles(); });
  }

  void PutFiles() {
    auto self = shared_from_this();
    while (!over && under_way < kMostAtOnce && next < files.size()) {
      StagedFile& file = files[next++];
      if (!file.at.empty() || (file.source.empty() && !file.is_text)) {
        continue;  // the manifest tells
      }
      Put({file.source, std::move(file.text), JoinUri(base, file.path), file.sha256, false}, [self] { self->PutFiles(); });
    }
    if (!over && under_way == 0 && next == files.size()) {
      ++next;  // once
      Put({"", last, JoinUri(base, kStagedManifest), Sha256Hex(last), false}, [self] { self->End(std::nullopt); });
    }
  }
};

RemoteFiles::Ticket RemoteStore::StageTo(const StagedSet& set, Done done) {
  auto staging = std::make_shared<StagingOut>();
  staging->store = this;
  staging->ticket = ++last_ticket_;
  staging->base = set.base;
  staging->first = StagedManifest(set, false);
  staging->last = StagedManifest(set, true);
  staging->files = set.files;
  staging->done = std::move(done);
  stagings_[staging->ticket] = staging;
  staging->Begin();
  return staging->ticket;
}

void RemoteStore::DropPublication(Ticket ticket) {
  if (auto found_staging = stagings_.find(ticket); found_staging != stagings_.end()) {
    if (auto staging = found_staging->second.lock()) {
      staging->Stop();
    }
    stagings_.erase(found_staging);
    return;
  }
  auto found = publications_.find(ticket);
  if (found == publications_.end()) {
    return;
  }
  if (auto publication = found->second.lock()) {
    publication->Stop();
  }
  publications_.erase(found);
}

}  // namespace

Result<std::unique_ptr<RemoteFiles>> MakeRemoteStore(const RemoteFilesHost& host) { return MakeRemoteStore(host, TransferOptions()); }

Result<std::unique_ptr<RemoteFiles>> MakeRemoteStore(const RemoteFilesHost& host, TransferOptions options) {
  const uint64_t record_above = options.record_above;
  auto transfers = Transfers::Create(host.loop, std::move(options));
  if (!transfers) {
    return transfers.error();
  }
  return std::unique_ptr<RemoteFiles>(new RemoteStore(host, *std::move(transfers), record_above));
}

std::vector<std::string> ChangedRemoteFiles(const ir::Plan& plan) {
  std::vector<std::string> problems;
  std::vector<std::string> uris;
  std::vector<const ir::FileRow*> rows;
  for (const ir::FileRow& row : plan.files) {
    if (row.base != ir::FileBase::Uri || !ParseAddress(row.path)) {
      continue;
    }
    if (row.etag.empty() && row.version.empty()) {
      problems.push_back(fmt::format("`{}` has no etag in the plan, so nobody can tell whether it is what it was; run the source instead of the plan", ShownUri(row.path)));
      continue;
    }
    uris.push_back(row.path);
    rows.push_back(&row);
  }
  const bool versions = std::any_of(rows.begin(), rows.end(), [](const ir::FileRow* row) { return !row->version.empty(); });
  const std::vector<Outcome<RemoteIdentity>> now = IdentifyAll(uris, !versions);
  for (size_t i = 0; i < now.size(); ++i) {
    if (!now[i]) {
      problems.push_back(now[i].failure().message);
    } else if (std::string difference = Difference({rows[i]->etag, rows[i]->version, rows[i]->size}, *now[i]); !difference.empty()) {
      problems.push_back(fmt::format("`{}` is not what it was when the plan was made: {}", ShownUri(uris[i]), IsTreeUri(uris[i]) ? "other objects lie there now" : difference));
    }
  }
  return problems;
}

namespace {

/// Attempts whose objects are removed at a time.
constexpr size_t kRemovedAtOnce = 16;

class Remover {
 public:
  Remover(Transfers& transfers, std::vector<StagedRemoval>& all, bool dry) : transfers_(transfers), all_(all), dry_(dry) {}

  bool done() const { return under_way_ == 0 && next_ == all_.size(); }

  void StartSome() {
    while (under_way_ < kRemovedAtOnce && next_ < all_.size()) {
      ++under_way_;
      List(all_[next_++]);
    }
  }

 private:
  void End(StagedRemoval& one, std::string problem) {
    one.problem = std::move(problem);
    --under_way_;
    StartSome();
  }

  void List(StagedRemoval& one) {
    ListAll(transfers_, one.base + "/", kMostStaged, std::make_shared<Transfers::Id>(0), [this, &one](Outcome<std::vector<ListPage::Object>> objects) {
      if (!objects) {
        return End(one, objects.failure().message);
      }
      if (objects->empty()) {
        return End(one, "");
      }
      one.there = true;
      transfers_.Read(JoinUri(one.base, kStagedManifest), kMostManifest, [this, &one, objects = *std::move(objects)](Outcome<std::string> text) {
        if (!text && text.failure().kind != FailureKind::Missing) {
          return End(one, text.failure().message);
        }
        if (!text || !IsStagedManifest(*text, one.execution_id)) {
          return End(one, fmt::format("`{}` has no `{}` of this attempt, so nobody knows whose it is; it stays", one.base, kStagedManifest));
        }
        for (const ListPage::Object& object : objects) {
          one.bytes += object.identity.size.value_or(0);
        }
        dry_ ? End(one, "") : Delete(one, objects);
      });
    });
  }

  /// The manifest last: whoever is cut off here can go on.
  void Delete(StagedRemoval& one, const std::vector<ListPage::Object>& objects) {
    const std::string bucket = one.base.substr(0, one.base.find('/', 5) + 1);
    const std::string manifest = JoinUri(one.base, kStagedManifest);
    struct Left {
      size_t count = 1;
      std::string problem;
    };
    auto left = std::make_shared<Left>();
    auto gone = [this, &one, left, manifest](Outcome<bool> answer) {
      if (!answer && left->problem.empty()) {
        left->problem = answer.failure().message;
      }
      if (--left->count > 0) {
        return;
      }
      if (!left->problem.empty()) {
        return End(one, left->problem);
      }
      transfers_.Delete(manifest, [this, &one](Outcome<bool> last) { End(one, last ? std::string() : last.failure().message); });
    };
    for (const ListPage::Object& object : objects) {
      if (bucket + object.key != manifest) {
        ++left->count;
        transfers_.Delete(bucket + object.key, gone);
      }
    }
    gone(true);
  }

  Transfers& transfers_;
  std::vector<StagedRemoval>& all_;
  bool dry_;
  size_t next_ = 0, under_way_ = 0;
};

}  // namespace

void RemoveStagedObjects(std::vector<StagedRemoval>& all, bool dry) {
  uv_loop_t loop;
  if (all.empty()) {
    return;
  }
  if (uv_loop_init(&loop) != 0) {
    for (StagedRemoval& one : all) {
      one.problem = "no event loop can be made";
    }
    return;
  }
  {
    TransferOptions options;
    options.retry.tries = 4;
    options.stall_ms = 20'000;
    auto transfers = Transfers::Create(&loop, std::move(options));
    if (!transfers) {
      for (StagedRemoval& one : all) {
        one.problem = transfers.error().message;
      }
    } else {
      Remover remover(**transfers, all, dry);
      remover.StartSome();
      while (!remover.done()) {
        uv_run(&loop, UV_RUN_ONCE);
      }
    }
  }
  uv_run(&loop, UV_RUN_DEFAULT);
  uv_loop_close(&loop);
}

}  // namespace jobc::storage

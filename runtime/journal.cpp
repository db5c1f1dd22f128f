#include "runtime/journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "support/checksum.h"

namespace jobc {
namespace {

constexpr int kApplicationId = 0x4a4f4243;  // "JOBC"

constexpr const char* kSchema = R"sql(
CREATE TABLE run(id TEXT NOT NULL, name TEXT NOT NULL, created_ms INTEGER NOT NULL, version TEXT NOT NULL,
  plan_digest TEXT NOT NULL, source TEXT NOT NULL, root TEXT NOT NULL, cwd TEXT NOT NULL, profile TEXT NOT NULL,
  options TEXT NOT NULL, plan BLOB NOT NULL, sum INTEGER NOT NULL, plan_sum INTEGER NOT NULL);
CREATE TABLE record(seq INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, type INTEGER NOT NULL, job INTEGER NOT NULL,
  ordinal INTEGER NOT NULL, attempt INTEGER NOT NULL, a INTEGER NOT NULL, b INTEGER NOT NULL, text TEXT, sum INTEGER NOT NULL);
CREATE TABLE output(job INTEGER NOT NULL, ordinal INTEGER NOT NULL, attempt INTEGER NOT NULL, outputs TEXT NOT NULL,
  result TEXT, sum INTEGER NOT NULL, files TEXT, PRIMARY KEY(job, ordinal)) WITHOUT ROWID;
CREATE TABLE export(id INTEGER PRIMARY KEY CHECK(id = 1), json TEXT NOT NULL, sum INTEGER NOT NULL);
)sql";

Error Damaged(const std::string& path, std::string_view why) {
  return Error{fmt::format("the journal `{}` is damaged ({}); the run's outputs and logs beside it are still readable", path, why), EILSEQ};
}

/// The checksum of a row: its numbers as 8 bytes each, little-endian, its texts behind their length. 32 bits are stored.
class RowSum {
 public:
  RowSum& Int(int64_t value) {
    const auto bits = static_cast<uint64_t>(value);
    char bytes[8];
    for (size_t i = 0; i < sizeof bytes; ++i) {
      bytes[i] = static_cast<char>(bits >> (8 * i) & 0xff);
    }
    bytes_.append(bytes, sizeof bytes);
    return *this;
  }
  RowSum& Text(std::string_view text) {
    Int(static_cast<int64_t>(text.size()));
    bytes_ += text;
    return *this;
  }
  int64_t Take() {
    const auto sum = static_cast<int64_t>(Checksum(bytes_) & 0xffffffff);
    bytes_.clear();
    return sum;
  }

 private:
  std::string bytes_;
};

int64_t SumOf(const Record& record, int64_t seq, RowSum& sum) {
  return sum.Int(seq).Int(record.time_ms).Int(static_cast<int64_t>(record.type)).Int(record.job).Int(record.ordinal).Int(record.attempt)
      .Int(record.a).Int(record.b).Text(record.text).Take();
}

int64_t SumOf(const RunHeader& header) {
  return RowSum().Text(header.id).Text(header.name).Int(header.created_ms).Text(header.version).Text(header.plan_digest).Text(header.source)
      .Text(header.root).Text(header.cwd).Text(header.profile).Text(header.options).Take();
}

/// SQLite's complaint as an Error with the errno value that fits.
Error SqlError(const std::string& path, std::string_view doing, int rc, sqlite3* db) {
  int primary = rc & 0xff;
  int code = EIO;
  std::string why = db != nullptr ? sqlite3_errmsg(db) : sqlite3_errstr(rc);
  switch (primary) {
    case SQLITE_FULL: code = ENOSPC; why = "no space left on the device"; break;
    case SQLITE_READONLY: code = EROFS; why = "it is not writable"; break;
    case SQLITE_CANTOPEN: {
      int system = db != nullptr ? sqlite3_system_errno(db) : 0;
      code = system != 0 ? system : EACCES;
      why = std::strerror(code);
      break;
    }
    case SQLITE_PERM: code = EACCES; break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: code = EBUSY; why = "another process holds it locked"; break;
    case SQLITE_NOMEM: code = ENOMEM; break;
    case SQLITE_NOTADB: return Error{fmt::format("`{}` is not a journal of jobc (its header is damaged or of another program)", path), EILSEQ};
    case SQLITE_CORRUPT:
    case SQLITE_SCHEMA: return Damaged(path, why);
    case SQLITE_ERROR:  // such as a table that is missing
      if (doing != "create") {
        return Damaged(path, why);
      }
      break;
    case SQLITE_IOERR: {
      int system = db != nullptr ? sqlite3_system_errno(db) : 0;
      if (system != 0) {
        code = system;
        why = std::strerror(system);
      }
      break;
    }
    default: break;
  }
  return Error{fmt::format("cannot {} the journal `{}`: {}", doing, path, why), code};
}

/// A database whose destructor closes it.
class Database {
 public:
  Database() = default;
  Database(Database&& other) noexcept : db_(std::exchange(other.db_, nullptr)) {}
  Database& operator=(Database&& other) noexcept {
    std::swap(db_, other.db_);
    return *this;
  }
  ~Database() {
    if (db_ != nullptr) {
      sqlite3_close(db_);
    }
  }
  sqlite3* get() const { return db_; }
  sqlite3** out() { return &db_; }

 private:
  sqlite3* db_ = nullptr;
};

/// A prepared statement whose destructor finalizes it.
class Statement {
 public:
  Statement() = default;
  Statement(Statement&& other) noexcept : statement_(std::exchange(other.statement_, nullptr)) {}
  Statement& operator=(Statement&& other) noexcept {
    std::swap(statement_, other.statement_);
    return *this;
  }
  ~Statement() { sqlite3_finalize(statement_); }

  int Prepare(sqlite3* db, const char* sql, bool persistent = true) {
    return sqlite3_prepare_v3(db, sql, -1, persistent ? SQLITE_PREPARE_PERSISTENT : 0, &statement_, nullptr);
  }
  explicit operator bool() const { return statement_ != nullptr; }
  void Int(int index, int64_t value) { sqlite3_bind_int64(statement_, index, value); }
  /// The text must live until the next Reset().
  void Text(int index, std::string_view text) {
    sqlite3_bind_text(statement_, index, text.data(), static_cast<int>(text.size()), SQLITE_STATIC);
  }
  void Blob(int index, std::string_view text) {
    sqlite3_bind_blob64(statement_, index, text.data() == nullptr ? "" : text.data(), text.size(), SQLITE_STATIC);
  }
  void Null(int index) { sqlite3_bind_null(statement_, index); }
  int Step() { return sqlite3_step(statement_); }
  void Reset() { sqlite3_reset(statement_); }
  int64_t GetInt(int column) const { return sqlite3_column_int64(statement_, column); }
  std::string GetText(int column) const {
    const void* data = sqlite3_column_blob(statement_, column);
    int size = sqlite3_column_bytes(statement_, column);
    return data == nullptr ? std::string() : std::string(static_cast<const char*>(data), static_cast<size_t>(size));
  }
  /// One row that changes something; SQLITE_OK when done.
  int Run() {
    int rc = Step();
    Reset();
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? SQLITE_OK : rc;
  }

 private:
  sqlite3_stmt* statement_ = nullptr;
};

int Execute(sqlite3* db, const char* sql) { return sqlite3_exec(db, sql, nullptr, nullptr, nullptr); }

constexpr const char* kMarkSuffix = "-mark";

/// `N sum`: records up to number N were durable.
std::string MarkText(int64_t seq) {
  const std::string number = fmt::format("{:020}", seq);
  return fmt::format("{} {:08x}\n", number, Checksum(number) & 0xffffffff);
}

/// 0 where there is none or it cannot be read.
int64_t ReadMark(const std::string& path) {
  const int fd = open((path + kMarkSuffix).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return 0;
  }
  char text[64];
  const ssize_t size = pread(fd, text, sizeof text - 1, 0);
  close(fd);
  if (size < 20) {
    return 0;
  }
  text[size] = 0;
  const int64_t seq = std::strtoll(std::string(text, 20).c_str(), nullptr, 10);
  return seq > 0 && MarkText(seq) == std::string_view(text, static_cast<size_t>(size)) ? seq : 0;
}

/// A journal without records as the bytes of a file: made in memory, so that a new run costs one write instead of several
/// transactions with their syncs.
Result<std::string> FirstImage(const std::string& path, const RunHeader& header, std::string_view plan_text) {
  Database memory;
  if (int rc = sqlite3_open_v2(":memory:", memory.out(), SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr); rc != SQLITE_OK) {
    return SqlError(path, "create", rc, memory.get());
  }
  std::string pragmas = fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {};", kApplicationId, kJournalVersion);
  int rc = Execute(memory.get(), pragmas.c_str());
  if (rc == SQLITE_OK) {
    rc = Execute(memory.get(), kSchema);
  }
  Statement insert;
  if (rc == SQLITE_OK) {
    rc = insert.Prepare(memory.get(), "INSERT INTO run VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)", false);
  }
  if (rc == SQLITE_OK) {
    insert.Text(1, header.id);
    insert.Text(2, header.name);
    insert.Int(3, header.created_ms);
    insert.Text(4, header.version);
    insert.Text(5, header.plan_digest);
    insert.Text(6, header.source);
    insert.Text(7, header.root);
    insert.Text(8, header.cwd);
    insert.Text(9, header.profile);
    insert.Text(10, header.options);
    insert.Blob(11, plan_text);
    insert.Int(12, SumOf(header));
    insert.Int(13, RowSum().Text(plan_text).Take());
    rc = insert.Run();
  }
  if (rc != SQLITE_OK) {
    return SqlError(path, "create", rc, memory.get());
  }
  sqlite3_int64 size = 0;
  unsigned char* bytes = sqlite3_serialize(memory.get(), "main", &size, 0);
  if (bytes == nullptr) {
    return SqlError(path, "create", SQLITE_NOMEM, nullptr);
  }
  std::string image(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
  sqlite3_free(bytes);
  // Bytes 18 and 19 of the header are the write and read version: 2 means WAL (SQLite file format, section 1.3.3).
  image[18] = 2;
  image[19] = 2;
  return image;
}

/// The file is there as a whole or not at all: a run whose process was killed meanwhile never was.
Result<void> WriteNewFile(const std::string& path, std::string_view bytes) {
  const std::string unfinished = path + ".new";
  int fd = open(unfinished.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) {
    return Error{fmt::format("cannot create the journal `{}`: {}", path, std::strerror(errno)), errno};
  }
  size_t done = 0;
  int failure = 0;
  while (done < bytes.size() && failure == 0) {
    ssize_t count = write(fd, bytes.data() + done, bytes.size() - done);
    if (count < 0) {
      failure = errno == EINTR ? 0 : errno;
    } else {
      done += static_cast<size_t>(count);
    }
  }
  if (failure == 0 && fdatasync(fd) != 0) {
    failure = errno;
  }
  close(fd);
  if (failure == 0 && access(path.c_str(), F_OK) == 0) {
    failure = EEXIST;
  }
  if (failure == 0 && rename(unfinished.c_str(), path.c_str()) != 0) {
    failure = errno;
  }
  if (failure != 0) {
    unlink(unfinished.c_str());
    return Error{fmt::format("cannot create the journal `{}`: {}", path, std::strerror(failure)), failure};
  }
  return {};
}

/// Checks that an open database is a journal this program understands.
Result<int64_t> CheckFormat(const std::string& path, sqlite3* db) {
  auto number = [&](const char* sql, int64_t& out) {
    Statement statement;
    int rc = statement.Prepare(db, sql, false);
    if (rc == SQLITE_OK) {
      rc = statement.Step();
    }
    if (rc != SQLITE_ROW) {
      return rc == SQLITE_OK || rc == SQLITE_DONE ? SQLITE_CORRUPT : rc;
    }
    out = statement.GetInt(0);
    return SQLITE_OK;
  };
  int64_t application = 0;
  int64_t version = 0;
  int rc = number("PRAGMA application_id", application);
  if (rc == SQLITE_OK) {
    rc = number("PRAGMA user_version", version);
  }
  if (rc != SQLITE_OK) {
    return SqlError(path, "read", rc, db);
  }
  if (application != kApplicationId) {
    return Error{fmt::format("`{}` is not a journal of jobc (its application id is {:#x}, not {:#x})", path, application, kApplicationId), EILSEQ};
  }
  if (version > kJournalVersion) {
    return Error{fmt::format("the journal `{}` was written by a newer jobc (format {}, this one reads up to {}); use that version", path, version, kJournalVersion), EILSEQ};
  }
  if (version < 1) {
    return Damaged(path, "it has no format number");
  }
  if (version < kOldestJournalVersion) {
    return Error{fmt::format("the journal `{}` was written by an older jobc (format {}, this one reads {} to {}); use that version, or start the run anew", path, version, kOldestJournalVersion, kJournalVersion), EILSEQ};
  }
  return version;
}

/// A journal of an older format becomes one of this format, in one transaction.
int Migrate(sqlite3* db, int64_t from) {
  if (from >= kJournalVersion) {
    return SQLITE_OK;
  }
  const std::string sql = fmt::format("BEGIN IMMEDIATE; {}PRAGMA user_version = {}; COMMIT", from < 3 ? "ALTER TABLE output ADD COLUMN files TEXT; " : "", kJournalVersion);
  int rc = Execute(db, sql.c_str());
  if (rc != SQLITE_OK && sqlite3_get_autocommit(db) == 0) {
    (void)Execute(db, "ROLLBACK");
  }
  return rc;
}

Result<RunHeader> ReadHeader(const std::string& path, sqlite3* db) {
  Statement statement;
  int rc = statement.Prepare(db, "SELECT id, name, created_ms, version, plan_digest, source, root, cwd, profile, options, sum FROM run", false);
  if (rc == SQLITE_OK) {
    rc = statement.Step();
  }
  if (rc == SQLITE_DONE) {
    return Damaged(path, "what it says about its run is missing");
  }
  if (rc != SQLITE_ROW) {
    return SqlError(path, "read", rc, db);
  }
  RunHeader header;
  header.id = statement.GetText(0);
  header.name = statement.GetText(1);
  header.created_ms = statement.GetInt(2);
  header.version = statement.GetText(3);
  header.plan_digest = statement.GetText(4);
  header.source = statement.GetText(5);
  header.root = statement.GetText(6);
  header.cwd = statement.GetText(7);
  header.profile = statement.GetText(8);
  header.options = statement.GetText(9);
  if (statement.GetInt(10) != SumOf(header)) {
    return Damaged(path, "what it says about its run is not as it was written");
  }
  return header;
}

}  // namespace

int64_t ChecksumOf(const StoredOutputs& outputs) {
  RowSum sum;
  sum.Int(outputs.job).Int(outputs.ordinal).Int(outputs.attempt).Text(outputs.outputs).Text(outputs.result);
  if (!outputs.files.empty()) {
    sum.Text(outputs.files);  // rows of format 2 have none, and keep their sums
  }
  return sum.Take();
}
int64_t ChecksumOfExports(std::string_view json) { return RowSum().Text(json).Take(); }

std::string_view RecordName(RecordType type) {
  switch (type) {
    case RecordType::Opened: return "opened";
    case RecordType::Intent: return "intent";
    case RecordType::Started: return "started";
    case RecordType::Verdict: return "verdict";
    case RecordType::Reaped: return "reaped";
    case RecordType::Final: return "final";
    case RecordType::Expanded: return "expanded";
    case RecordType::Retry: return "retry";
    case RecordType::Mode: return "mode";
    case RecordType::Stop: return "stop";
    case RecordType::Finished: return "finished";
    case RecordType::Note: return "note";
    case RecordType::Ahead: return "ahead";
    case RecordType::Key: return "key";
    case RecordType::Reused: return "reused";
    case RecordType::Adopted: return "adopted";
  }
  return "unknown";
}

// --- writing ----------------------------------------------------------------

namespace {

/// The write-ahead log as a file to wait for, through SQLite's own file layer, and the mark beside it. SQLite itself is told not
/// to wait (`synchronous = NORMAL` syncs the head of the log and around checkpoints, which is what keeps the file whole); one
/// fdatasync after a COMMIT is what FULL would add. On any thread.
class LogFile {
 public:
  /// Call when the log exists. The error is an errno value. Without `sync` only the mark is written.
  static Result<std::shared_ptr<LogFile>> Open(const std::string& path, bool sync) {
    auto log = std::shared_ptr<LogFile>(new LogFile(path, sync));
    if (sync) {
      sqlite3_vfs* vfs = sqlite3_vfs_find(nullptr);
      log->storage_.resize((static_cast<size_t>(vfs->szOsFile) + sizeof(std::max_align_t) - 1) / sizeof(std::max_align_t));
      auto* file = reinterpret_cast<sqlite3_file*>(log->storage_.data());
      errno = 0;
      int flags = 0;
      if (vfs->xOpen(vfs, log->name_.c_str(), file, SQLITE_OPEN_READWRITE | SQLITE_OPEN_WAL, &flags) != SQLITE_OK) {
        return Error{"", errno != 0 ? errno : EIO};
      }
      log->file_ = file;
    }
    // Without it nothing is lost but the knowledge of a loss.
    log->mark_ = open((path + kMarkSuffix).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    return log;
  }
  ~LogFile() {
    if (file_ != nullptr) {
      file_->pMethods->xClose(file_);
    }
    if (mark_ >= 0) {
      close(mark_);
    }
  }
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;

  /// Waits until the records up to `seq` are on the disk, and marks that they are. One at a time, and a failure stays: the kernel
  /// reports it only to the first who asks.
  int Sync(int64_t seq) {
    std::lock_guard<std::mutex> guard(mutex_);
    if (file_ != nullptr && failure_ == 0) {
      errno = 0;
      if (file_->pMethods->xSync(file_, SQLITE_SYNC_NORMAL | SQLITE_SYNC_DATAONLY) != SQLITE_OK) {
        failure_ = errno != 0 ? errno : EIO;
      } else if (!places_) {
        SyncPlaces();
      }
    }
    if (failure_ == 0 && seq > marked_ && mark_ >= 0) {
      const std::string text = MarkText(seq);
      [[maybe_unused]] const ssize_t written = pwrite(mark_, text.data(), text.size(), 0);
      marked_ = seq;
    }
    return failure_;
  }

 private:
  explicit LogFile(const std::string& path, bool sync) : path_(path), name_(path + "-wal") { name_.append(4, '\0'); }

  /// The names of the run's directory and of the one above. SQLite has seen to those in the run's directory.
  void SyncPlaces() {
    places_ = true;
    std::string place = path_;
    for (int level = 0; level < 3; ++level) {
      const size_t slash = place.rfind('/');
      if (slash == std::string::npos || slash == 0) {
        return;
      }
      place.resize(slash);
      const int fd = level == 0 ? -1 : open(place.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      if (fd >= 0) {
        fsync(fd);
        close(fd);
      }
    }
  }

  std::string path_;
  std::string name_;  ///< with the zeros behind it that SQLite wants
  std::vector<std::max_align_t> storage_;
  sqlite3_file* file_ = nullptr;  ///< null: nothing is waited for
  int mark_ = -1;
  std::mutex mutex_;
  int failure_ = 0;
  int64_t marked_ = -1;
  bool places_ = false;
};

}  // namespace

struct Journal::State {
  std::string path;
  Database db;  // before the statements: they are finalized first
  Statement begin, commit, record, output, exports;
  int64_t next = 1;
  size_t pending = 0;
  int64_t lost = 0;
  RowSum sum;
  bool open = false;  ///< a transaction is open
  bool full = true;   ///< commits survive a power loss
  bool behind = false;  ///< the last transaction ended without a wait for the disk
  std::shared_ptr<LogFile> log;  ///< opened with the first commit
  std::optional<Error> failure;

  Error Fail(std::string_view doing, int rc) {
    if (!failure) {
      failure = SqlError(path, doing, rc, db.get());
    }
    return *failure;
  }

  Result<void> Connect(Durability durability) {
    int rc = sqlite3_open_v2(path.c_str(), db.out(), SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
    if (rc != SQLITE_OK) {
      return SqlError(path, "open", rc, db.get());
    }
    sqlite3_extended_result_codes(db.get(), 1);
    sqlite3_busy_timeout(db.get(), 5000);
    auto format = CheckFormat(path, db.get());
    if (!format) {
      return format.error();
    }
    if (sqlite3_db_readonly(db.get(), "main") == 1) {
      return SqlError(path, "write", SQLITE_READONLY, nullptr);
    }
    if (int code = Migrate(db.get(), *format); code != SQLITE_OK) {
      return SqlError(path, "write", code, db.get());
    }
    // Checkpoints at 4,000 pages (16 MiB): large enough to stay rare, small enough to keep recovery fast.
    rc = Execute(db.get(), "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 4000; PRAGMA cache_size = -4000");
    full = durability == Durability::Full;
    if (rc == SQLITE_OK) {
      rc = begin.Prepare(db.get(), "BEGIN IMMEDIATE");
    }
    if (rc == SQLITE_OK) {
      rc = commit.Prepare(db.get(), "COMMIT");
    }
    if (rc == SQLITE_OK) {
      rc = record.Prepare(db.get(), "INSERT INTO record VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)");
    }
    return rc == SQLITE_OK ? Result<void>() : Result<void>(SqlError(path, "open", rc, db.get()));
  }

  Error SyncFailed(int code) {
    if (!failure) {
      failure = Error{fmt::format("cannot write the journal `{}`: {}", path, code == ENOSPC ? "no space left on the device" : std::strerror(code)), code};
    }
    return *failure;
  }

  /// Ends the transaction; what it wrote is in the log, perhaps not yet on the disk.
  Result<void> End() {
    if (int rc = commit.Run(); rc != SQLITE_OK) {
      return Fail("write", rc);
    }
    open = false;
    pending = 0;
    if (log == nullptr) {
      auto opened = LogFile::Open(path, full);
      if (!opened) {
        return SyncFailed(opened.error().code);
      }
      log = *std::move(opened);
    }
    return {};
  }

  Result<void> EnsureOpen() {
    if (failure) {
      return *failure;
    }
    if (!open) {
      if (int rc = begin.Run(); rc != SQLITE_OK) {
        return Fail("write", rc);
      }
      open = true;
    }
    return {};
  }
};

Journal::Journal(std::unique_ptr<State> state) : state_(std::move(state)) {}
Journal::Journal(Journal&&) noexcept = default;
Journal& Journal::operator=(Journal&&) noexcept = default;
Journal::~Journal() = default;

Result<Journal> Journal::Create(const std::string& path, const RunHeader& header, std::string_view plan_text,
                                Durability durability) {
  auto image = FirstImage(path, header, plan_text);
  if (!image) {
    return image.error();
  }
  if (auto written = WriteNewFile(path, *image); !written) {
    return written.error();
  }
  auto state = std::make_unique<State>();
  state->path = path;
  if (auto connected = state->Connect(durability); !connected) {
    return connected.error();
  }
  return Journal(std::move(state));
}

Result<Journal> Journal::Open(const std::string& path, Durability durability) {
  auto state = std::make_unique<State>();
  state->path = path;
  const int64_t marked = ReadMark(path);
  if (auto connected = state->Connect(durability); !connected) {
    return connected.error();
  }
  if (auto header = ReadHeader(path, state->db.get()); !header) {
    return header.error();
  }
  Statement last;
  int rc = last.Prepare(state->db.get(), "SELECT max(seq) FROM record", false);
  if (rc == SQLITE_OK) {
    rc = last.Step();
  }
  if (rc != SQLITE_ROW) {
    return SqlError(path, "read", rc, state->db.get());
  }
  state->next = last.GetInt(0) + 1;
  state->lost = std::max<int64_t>(0, marked - last.GetInt(0));
  return Journal(std::move(state));
}

Result<int64_t> Journal::Append(const Record& record) {
  State& s = *state_;
  if (auto ready = s.EnsureOpen(); !ready) {
    return ready.error();
  }
  s.record.Int(1, s.next);
  s.record.Int(2, record.time_ms);
  s.record.Int(3, static_cast<int>(record.type));
  s.record.Int(4, record.job);
  s.record.Int(5, record.ordinal);
  s.record.Int(6, record.attempt);
  s.record.Int(7, record.a);
  s.record.Int(8, record.b);
  if (record.text.empty()) {
    s.record.Null(9);
  } else {
    s.record.Text(9, record.text);
  }
  s.record.Int(10, SumOf(record, s.next, s.sum));
  if (int rc = s.record.Run(); rc != SQLITE_OK) {
    return s.Fail("write", rc);
  }
  ++s.pending;
  return s.next++;
}

Result<void> Journal::PutOutputs(const StoredOutputs& outputs) {
  State& s = *state_;
  if (auto ready = s.EnsureOpen(); !ready) {
    return ready.error();
  }
  if (!s.output) {
    // Prepared with the first use: a run without outputs does not pay for it.
    if (int rc = s.output.Prepare(s.db.get(), "INSERT OR REPLACE INTO output(job, ordinal, attempt, outputs, result, sum, files) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)"); rc != SQLITE_OK) {
      return s.Fail("write", rc);
    }
  }
  s.output.Int(1, outputs.job);
  s.output.Int(2, outputs.ordinal);
  s.output.Int(3, outputs.attempt);
  s.output.Text(4, outputs.outputs);
  if (outputs.result.empty()) {
    s.output.Null(5);
  } else {
    s.output.Text(5, outputs.result);
  }
  s.output.Int(6, ChecksumOf(outputs));
  if (outputs.files.empty()) {
    s.output.Null(7);
  } else {
    s.output.Text(7, outputs.files);
  }
  if (int rc = s.output.Run(); rc != SQLITE_OK) {
    return s.Fail("write", rc);
  }
  ++s.pending;
  return {};
}

Result<void> Journal::PutExports(std::string_view json) {
  State& s = *state_;
  if (auto ready = s.EnsureOpen(); !ready) {
    return ready.error();
  }
  int rc = s.exports.Prepare(s.db.get(), "INSERT OR REPLACE INTO export VALUES(1, ?1, ?2)", false);
  if (rc == SQLITE_OK) {
    s.exports.Text(1, json);
    s.exports.Int(2, ChecksumOfExports(json));
    rc = s.exports.Run();
  }
  if (rc != SQLITE_OK) {
    return s.Fail("write", rc);
  }
  ++s.pending;
  return {};
}

Result<void> Journal::Commit() {
  State& s = *state_;
  if (s.failure) {
    return *s.failure;
  }
  if (!s.open && !s.behind) {
    return {};
  }
  if (s.open) {
    if (auto ended = s.End(); !ended) {
      return ended;
    }
  }
  s.behind = false;
  if (s.log != nullptr) {
    if (int code = s.log->Sync(s.next - 1); code != 0) {
      return s.SyncFailed(code);
    }
  }
  return {};
}

Result<Journal::Sync> Journal::CommitBehind() {
  State& s = *state_;
  if (s.failure) {
    return *s.failure;
  }
  if (!s.open) {
    return Sync();
  }
  if (auto ended = s.End(); !ended) {
    return ended.error();
  }
  if (!s.full) {
    (void)s.log->Sync(s.next - 1);
    return Sync();
  }
  s.behind = true;
  return Sync([log = s.log, seq = s.next - 1] { return log->Sync(seq); });
}

Error Journal::SyncFailed(int code) { return state_->SyncFailed(code); }

bool Journal::dirty() const { return state_->open; }
size_t Journal::pending() const { return state_->pending; }
int64_t Journal::lost() const { return state_->lost; }
const std::string& Journal::path() const { return state_->path; }

// --- reading ----------------------------------------------------------------

struct JournalReader::State {
  std::string path;
  Database db;        // before the statement: that is finalized first
  Statement outputs;  ///< of one instance; prepared with the first use, as resuming asks for each
  RunHeader header;
  int64_t version = kJournalVersion;
  /// What `output.files` is called in a query; format 2 had none.
  const char* files() const { return version >= 3 ? "files" : "NULL"; }
};

JournalReader::JournalReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
JournalReader::JournalReader(JournalReader&&) noexcept = default;
JournalReader& JournalReader::operator=(JournalReader&&) noexcept = default;
JournalReader::~JournalReader() = default;

Result<JournalReader> JournalReader::Open(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    return Error{fmt::format("cannot open the journal `{}`: {}", path, std::strerror(errno)), errno};
  }
  auto state = std::make_unique<State>();
  state->path = path;
  auto attempt = [&](const std::string& name, int flags) -> Result<void> {
    state->db = Database();
    int rc = sqlite3_open_v2(name.c_str(), state->db.out(), flags, nullptr);
    if (rc != SQLITE_OK) {
      return SqlError(path, "open", rc, state->db.get());
    }
    sqlite3_extended_result_codes(state->db.get(), 1);
    sqlite3_busy_timeout(state->db.get(), 5000);
    auto format = CheckFormat(path, state->db.get());
    if (!format) {
      return format.error();
    }
    state->version = *format;
    auto header = ReadHeader(path, state->db.get());
    if (!header) {
      return header.error();
    }
    state->header = *std::move(header);
    return {};
  };
  auto opened = attempt(path, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX);
  if (!opened && (opened.error().code == EROFS || opened.error().code == EACCES || opened.error().code == EPERM)) {
    // A finished run on a read-only disk: there is no shared-memory file and none can be made.
    std::string uri = "file:";
    for (char c : path) {
      uri += c == '%' || c == '?' || c == '#' ? fmt::format("%{:02X}", static_cast<unsigned char>(c)) : std::string(1, c);
    }
    if (auto second = attempt(uri + "?immutable=1", SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI)) {
      opened = second;
    }
  }
  if (!opened) {
    return opened.error();
  }
  return JournalReader(std::move(state));
}

const RunHeader& JournalReader::header() const { return state_->header; }

Result<std::string> JournalReader::PlanText() {
  Statement statement;
  int rc = statement.Prepare(state_->db.get(), "SELECT plan, plan_sum FROM run", false);
  if (rc == SQLITE_OK) {
    rc = statement.Step();
  }
  if (rc != SQLITE_ROW) {
    return SqlError(state_->path, "read", rc, state_->db.get());
  }
  std::string text = statement.GetText(0);
  if (statement.GetInt(1) != RowSum().Text(text).Take()) {
    return Damaged(state_->path, "the plan in it is not as it was written");
  }
  return text;
}

namespace {
/// False if it is not as it was written.
bool FillRecord(const Statement& row, Record& record, RowSum& sum) {
  record.seq = row.GetInt(0);
  record.time_ms = row.GetInt(1);
  record.type = static_cast<RecordType>(row.GetInt(2));
  record.job = static_cast<int32_t>(row.GetInt(3));
  record.ordinal = row.GetInt(4);
  record.attempt = static_cast<int32_t>(row.GetInt(5));
  record.a = row.GetInt(6);
  record.b = row.GetInt(7);
  record.text = row.GetText(8);
  return row.GetInt(9) == SumOf(record, record.seq, sum) && row.GetInt(2) == static_cast<int64_t>(record.type) && row.GetInt(3) == record.job &&
         row.GetInt(5) == record.attempt;
}

Error DamagedRecord(const std::string& path, int64_t seq) { return Damaged(path, fmt::format("record {} is not as it was written", seq)); }
}  // namespace

Result<int64_t> JournalReader::Lost() {
  const int64_t marked = ReadMark(state_->path);  // first: it says what the file must have by now
  Statement statement;
  int rc = statement.Prepare(state_->db.get(), "SELECT max(seq) FROM record", false);
  if (rc == SQLITE_OK) {
    rc = statement.Step();
  }
  if (rc != SQLITE_ROW) {
    return SqlError(state_->path, "read", rc, state_->db.get());
  }
  return std::max<int64_t>(0, marked - statement.GetInt(0));
}

Result<void> JournalReader::Scan(int64_t after, const std::function<bool(const Record&)>& visit) {
  Statement statement;
  int rc = statement.Prepare(state_->db.get(), "SELECT seq, time_ms, type, job, ordinal, attempt, a, b, text, sum FROM record WHERE seq > ?1 ORDER BY seq", false);
  if (rc != SQLITE_OK) {
    return SqlError(state_->path, "read", rc, state_->db.get());
  }
  statement.Int(1, after);
  Record record;
  RowSum sum;
  while ((rc = statement.Step()) == SQLITE_ROW) {
    const bool whole = FillRecord(statement, record, sum);
    if (record.seq != ++after) {
      return Damaged(state_->path, record.seq == after + 1 ? fmt::format("record {} is missing", after) : fmt::format("records {} to {} are missing", after, record.seq - 1));
    }
    if (!whole) {
      return DamagedRecord(state_->path, record.seq);
    }
    if (!visit(record)) {
      return {};
    }
  }
  return rc == SQLITE_DONE ? Result<void>() : Result<void>(SqlError(state_->path, "read", rc, state_->db.get()));
}

Result<int64_t> JournalReader::LastNumber() {
  Statement statement;
  int rc = statement.Prepare(state_->db.get(), "SELECT max(seq) FROM record", false);
  if (rc == SQLITE_OK) {
    rc = statement.Step();
  }
  if (rc != SQLITE_ROW) {
    return SqlError(state_->path, "read", rc, state_->db.get());
  }
  return statement.GetInt(0);
}

Result<std::optional<Record>> JournalReader::Last(RecordType type, int64_t after) {
  Statement statement;
  int rc = statement.Prepare(state_->db.get(), "SELECT seq, time_ms, type, job, ordinal, attempt, a, b, text, sum FROM record WHERE type = ?1 AND seq > ?2 ORDER BY seq DESC LIMIT 1", false);
  if (rc != SQLITE_OK) {
    return SqlError(state_->path, "read", rc, state_->db.get());
  }
  statement.Int(1, static_cast<int>(type));
  statement.Int(2, after);
  rc = statement.Step();
  if (rc == SQLITE_DONE) {
    return std::optional<Record>();
  }
  if (rc != SQLITE_ROW) {
    return SqlError(state_->path, "read", rc, state_->db.get());
  }
  std::optional<Record> record(std::in_place);
  RowSum sum;
  if (!FillRecord(statement, *record, sum)) {
    return DamagedRecord(state_->path, record->seq);
  }
  return record;
}

namespace {
Result<StoredOutputs> OutputRow(const std::string& path, const Statement& statement) {
  StoredOutputs row{static_cast<int32_t>(statement.GetInt(0)), statement.GetInt(1), static_cast<int32_t>(statement.GetInt(2)), statement.GetText(3), statement.GetText(4), statement.GetText(6)};
  if (statement.GetInt(5) != ChecksumOf(row)) {
    return Damaged(path, fmt::format("the outputs of instance {} of job {} are not as they were written", row.ordinal, row.job));
  }
  return row;
}
}  // namespace

Result<std::optional<StoredOutputs>> JournalReader::Outputs(int32_t job, int64_t ordinal) {
  Statement& statement = state_->outputs;
  int rc = SQLITE_OK;
  if (!statement) {
    const std::string sql = fmt::format("SELECT job, ordinal, attempt, outputs, result, sum, {} FROM output WHERE job = ?1 AND ordinal = ?2", state_->files());
    rc = statement.Prepare(state_->db.get(), sql.c_str());
  }
  if (rc != SQLITE_OK) {
    return SqlError(state_->path, "read", rc, state_->db.get());
  }
  statement.Int(1, job);
  statement.Int(2, ordinal);
  rc = statement.Step();
  Result<std::optional<StoredOutputs>> out = std::optional<StoredOutputs>();
  if (rc == SQLITE_ROW) {
    auto row = OutputRow(state_->path, statement);
    out = row ? Result<std::optional<StoredOutputs>>(*std::move(row)) : Result<std::optional<StoredOutputs>>(row.error());
  } else if (rc != SQLITE_DONE) {
    out = SqlError(state_->path, "read", rc, state_->db.get());
  }
  statement.Reset();
  return out;
}

Result<void> JournalReader::ScanOutputs(int32_t job, const std::function<bool(const StoredOutputs&)>& visit) {
  Statement statement;
  const std::string sql = fmt::format("SELECT job, ordinal, attempt, outputs, result, sum, {} FROM output WHERE ?1 < 0 OR job = ?1 ORDER BY job, ordinal", state_->files());
  int rc = statement.Prepare(state_->db.get(), sql.c_str(), false);
  if (rc != SQLITE_OK) {
    return SqlError(state_->path, "read", rc, state_->db.get());
  }
  statement.Int(1, job);
  while ((rc = statement.Step()) == SQLITE_ROW) {
    auto row = OutputRow(state_->path, statement);
    if (!row) {
      return row.error();
    }
    if (!visit(*row)) {
      return {};
    }
  }
  return rc == SQLITE_DONE ? Result<void>() : Result<void>(SqlError(state_->path, "read", rc, state_->db.get()));
}

Result<std::string> JournalReader::Exports() {
  Statement statement;
  int rc = statement.Prepare(state_->db.get(), "SELECT json, sum FROM export", false);
  if (rc == SQLITE_OK) {
    rc = statement.Step();
  }
  if (rc == SQLITE_DONE) {
    return std::string();
  }
  if (rc != SQLITE_ROW) {
    return SqlError(state_->path, "read", rc, state_->db.get());
  }
  std::string json = statement.GetText(0);
  if (statement.GetInt(1) != ChecksumOfExports(json)) {
    return Damaged(state_->path, "the exports are not as they were written");
  }
  return json;
}

}  // namespace jobc

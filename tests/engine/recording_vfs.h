// An SQLite file layer that passes everything on and keeps a log of what a journal wrote: writes, truncations, deletions, and
// which of them were waited for. From that log it builds the files that a power loss at any moment may leave: what was waited
// for is there; of the rest each write may be there, missing, or there in some of its sectors, whatever their order was.
// Registered as the default one, so it also sees the syncs that jobc does itself.
#pragma once

#include <sqlite3.h>

#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace jobc::testing {

/// The files of a journal; nothing: it does not exist.
struct JournalFiles {
  std::optional<std::string> db, wal, mark;
};

class RecordingVfs {
 public:
  enum class What : uint8_t { Write, Truncate, Delete, SyncBegin, SyncEnd, Note };
  struct Entry {
    What what = What::Note;
    int file = 0;         ///< 0: the database, 1: its log
    int64_t number = 0;   ///< Write: offset; Truncate: size; SyncEnd: index of its SyncBegin; Note: what was noted
    std::string data;
    std::string mark;     ///< what `-mark` held at that time
  };

  RecordingVfs() {
    real_ = sqlite3_vfs_find(nullptr);
    vfs_ = *real_;
    vfs_.zName = "recording";
    vfs_.pNext = nullptr;
    vfs_.pAppData = this;
    vfs_.szOsFile = static_cast<int>(sizeof(File)) + real_->szOsFile;
    vfs_.xOpen = Open;
    vfs_.xDelete = Delete;
    sqlite3_vfs_register(&vfs_, 1);
  }
  ~RecordingVfs() {
    sqlite3_vfs_unregister(&vfs_);
    sqlite3_vfs_register(real_, 1);
  }
  RecordingVfs(const RecordingVfs&) = delete;
  RecordingVfs& operator=(const RecordingVfs&) = delete;

  /// Records the first journal that is opened from now on, until Stop().
  void Start() { recording_ = true; }
  void Stop() { recording_ = false; }
  /// Puts a number into the log, on any thread.
  void Note(int64_t number) {
    std::lock_guard<std::mutex> guard(mutex_);
    if (recording_ && !path_.empty()) {
      Add({What::Note, 0, number, "", ""});
    }
  }
  const std::vector<Entry>& entries() const { return entries_; }

  enum class Unsynced : uint8_t { None, All, Some };
  /// What is on the disk when the power fails after the first `count` entries.
  JournalFiles After(size_t count, Unsynced unsynced, std::mt19937_64& random) const {
    JournalFiles out;
    std::optional<std::string>* files[] = {&out.db, &out.wal};
    out.db = first_;
    for (int file = 0; file < 2; ++file) {
      size_t durable = 0;
      for (size_t i = 0; i < count; ++i) {
        if (entries_[i].what == What::SyncEnd && entries_[i].file == file) {
          durable = std::max(durable, static_cast<size_t>(entries_[i].number));
        }
      }
      for (size_t i = 0; i < count; ++i) {
        const Entry& entry = entries_[i];
        if (entry.file == file) {
          Apply(entry, i < durable ? Unsynced::All : unsynced, *files[file], random);
        }
      }
    }
    // The mark is never waited for: any of its contents may be there, of which the last one asks for most.
    size_t seen = count == 0 ? 0 : unsynced == Unsynced::Some && random() % 2 == 0 ? random() % count : count - 1;
    if (seen < entries_.size() && !entries_[seen].mark.empty()) {
      out.mark = entries_[seen].mark;
    }
    return out;
  }

 private:
  struct File {
    sqlite3_file base;
    RecordingVfs* self;
    int kind;             ///< 0, 1; -1: not recorded
    sqlite3_file* real() { return reinterpret_cast<sqlite3_file*>(this + 1); }
  };

  static void Apply(const Entry& entry, Unsynced how, std::optional<std::string>& file, std::mt19937_64& random) {
    if (how == Unsynced::None || (how == Unsynced::Some && random() % 3 == 0)) {
      return;
    }
    switch (entry.what) {
      case What::Write: {
        if (!file) {
          file.emplace();
        }
        const auto offset = static_cast<size_t>(entry.number);
        const bool torn = how == Unsynced::Some && random() % 3 == 0;
        if (file->size() < offset + entry.data.size()) {
          // What was never written there is zeros, or whatever the disk held.
          file->resize(offset + entry.data.size(), how == Unsynced::Some && random() % 2 == 0 ? '\x5a' : '\0');
        }
        for (size_t at = 0; at < entry.data.size();) {
          const size_t piece = std::min(entry.data.size() - at, kSector - (offset + at) % kSector);
          if (!torn || random() % 2 == 0) {
            file->replace(offset + at, piece, entry.data, at, piece);
          }
          at += piece;
        }
        break;
      }
      case What::Truncate:
        if (file) {
          file->resize(static_cast<size_t>(entry.number), '\0');
        }
        break;
      case What::Delete: file.reset(); break;
      default: break;
    }
  }

  void Add(Entry entry) {
    entry.mark = Mark();
    entries_.push_back(std::move(entry));
  }

  std::string Mark() const {
    std::string text;
    if (FILE* file = std::fopen((path_ + "-mark").c_str(), "rb")) {
      char buffer[128];
      text.assign(buffer, std::fread(buffer, 1, sizeof buffer, file));
      std::fclose(file);
    }
    return text;
  }

  static int Open(sqlite3_vfs* vfs, const char* name, sqlite3_file* out, int flags, int* out_flags) {
    auto* self = static_cast<RecordingVfs*>(vfs->pAppData);
    auto* file = reinterpret_cast<File*>(out);
    std::memset(static_cast<void*>(file), 0, sizeof(File));
    const int rc = self->real_->xOpen(self->real_, name, file->real(), flags, out_flags);
    if (rc != SQLITE_OK) {
      return rc;
    }
    file->self = self;
    file->kind = -1;
    {
      std::lock_guard<std::mutex> guard(self->mutex_);
      if (self->recording_ && name != nullptr) {
        const std::string path = name;
        if (self->path_.empty() && (flags & SQLITE_OPEN_MAIN_DB) != 0 && (flags & SQLITE_OPEN_READWRITE) != 0) {
          self->path_ = path;
          sqlite3_int64 size = 0;
          file->real()->pMethods->xFileSize(file->real(), &size);
          self->first_.resize(static_cast<size_t>(size));
          file->real()->pMethods->xRead(file->real(), self->first_.data(), static_cast<int>(size), 0);
        }
        file->kind = path == self->path_ ? 0 : path == self->path_ + "-wal" ? 1 : -1;
      }
    }
    static const sqlite3_io_methods methods = Methods();
    file->base.pMethods = &methods;
    return SQLITE_OK;
  }

  static int Delete(sqlite3_vfs* vfs, const char* name, int sync) {
    auto* self = static_cast<RecordingVfs*>(vfs->pAppData);
    {
      std::lock_guard<std::mutex> guard(self->mutex_);
      if (self->recording_ && !self->path_.empty() && name == self->path_ + "-wal") {
        self->Add({What::Delete, 1, 0, "", ""});
      }
    }
    return self->real_->xDelete(self->real_, name, sync);
  }

  static File* Of(sqlite3_file* file) { return reinterpret_cast<File*>(file); }
  bool Records(const File* file) const { return recording_ && file->kind >= 0; }

  static int Write(sqlite3_file* base, const void* data, int size, sqlite3_int64 offset) {
    File* file = Of(base);
    std::lock_guard<std::mutex> guard(file->self->mutex_);
    if (file->self->Records(file)) {
      file->self->Add({What::Write, file->kind, offset, std::string(static_cast<const char*>(data), static_cast<size_t>(size)), ""});
    }
    return file->real()->pMethods->xWrite(file->real(), data, size, offset);
  }
  static int Truncate(sqlite3_file* base, sqlite3_int64 size) {
    File* file = Of(base);
    std::lock_guard<std::mutex> guard(file->self->mutex_);
    if (file->self->Records(file)) {
      file->self->Add({What::Truncate, file->kind, size, "", ""});
    }
    return file->real()->pMethods->xTruncate(file->real(), size);
  }
  static int Sync(sqlite3_file* base, int flags) {
    File* file = Of(base);
    RecordingVfs* self = file->self;
    size_t begin = 0;
    bool records = false;
    {
      std::lock_guard<std::mutex> guard(self->mutex_);
      records = self->Records(file);
      if (records) {
        begin = self->entries_.size();
        self->Add({What::SyncBegin, file->kind, 0, "", ""});
      }
    }
    const int rc = file->real()->pMethods->xSync(file->real(), flags);
    if (records && rc == SQLITE_OK) {
      std::lock_guard<std::mutex> guard(self->mutex_);
      self->Add({What::SyncEnd, file->kind, static_cast<int64_t>(begin), "", ""});
    }
    return rc;
  }

  static sqlite3_io_methods Methods() {
    sqlite3_io_methods m{};
    m.iVersion = 2;  // no memory mapping: every read and write is seen
    m.xClose = [](sqlite3_file* f) { return Of(f)->real()->pMethods->xClose(Of(f)->real()); };
    m.xRead = [](sqlite3_file* f, void* data, int size, sqlite3_int64 at) { return Of(f)->real()->pMethods->xRead(Of(f)->real(), data, size, at); };
    m.xWrite = Write;
    m.xTruncate = Truncate;
    m.xSync = Sync;
    m.xFileSize = [](sqlite3_file* f, sqlite3_int64* size) { return Of(f)->real()->pMethods->xFileSize(Of(f)->real(), size); };
    m.xLock = [](sqlite3_file* f, int how) { return Of(f)->real()->pMethods->xLock(Of(f)->real(), how); };
    m.xUnlock = [](sqlite3_file* f, int how) { return Of(f)->real()->pMethods->xUnlock(Of(f)->real(), how); };
    m.xCheckReservedLock = [](sqlite3_file* f, int* out) { return Of(f)->real()->pMethods->xCheckReservedLock(Of(f)->real(), out); };
    m.xFileControl = [](sqlite3_file* f, int what, void* data) { return Of(f)->real()->pMethods->xFileControl(Of(f)->real(), what, data); };
    m.xSectorSize = [](sqlite3_file* f) { return Of(f)->real()->pMethods->xSectorSize(Of(f)->real()); };
    m.xDeviceCharacteristics = [](sqlite3_file* f) { return Of(f)->real()->pMethods->xDeviceCharacteristics(Of(f)->real()); };
    m.xShmMap = [](sqlite3_file* f, int page, int size, int extend, void volatile** out) { return Of(f)->real()->pMethods->xShmMap(Of(f)->real(), page, size, extend, out); };
    m.xShmLock = [](sqlite3_file* f, int offset, int n, int flags) { return Of(f)->real()->pMethods->xShmLock(Of(f)->real(), offset, n, flags); };
    m.xShmBarrier = [](sqlite3_file* f) { Of(f)->real()->pMethods->xShmBarrier(Of(f)->real()); };
    m.xShmUnmap = [](sqlite3_file* f, int remove) { return Of(f)->real()->pMethods->xShmUnmap(Of(f)->real(), remove); };
    return m;
  }

  static constexpr size_t kSector = 512;

  sqlite3_vfs* real_ = nullptr;
  sqlite3_vfs vfs_{};
  std::mutex mutex_;
  bool recording_ = false;
  std::string path_;
  std::string first_;
  std::vector<Entry> entries_;
};

}  // namespace jobc::testing

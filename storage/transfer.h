// Moves bytes between this machine and storages, on a libuv loop and never blocking it for longer than a write to the page
// cache: many transfers at a time, large ones in parts, each part tried again from the byte where it was cut. Memory does not
// depend on sizes. Owned by whoever wants files moved (fetcher.h, publish_remote.h); all callbacks come from the loop.
#pragma once

#include <uv.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "storage/fetch_record.h"
#include "storage/storage.h"
#include "support/result.h"

namespace jobc::storage {

/// Where back-offs are waited for; tests have one whose time is only counted.
class Timers {
 public:
  virtual ~Timers() = default;
  /// Calls `then` once from the loop, after `ms` and never at once.
  virtual void After(int64_t ms, std::function<void()> then) = 0;
};

struct TransferOptions {
  RetryPolicy retry;
  std::shared_ptr<Timers> timers;          ///< null: the loop's own
  uint32_t parallel = 16;                  ///< requests at a time
  uint64_t part_bytes = uint64_t{16} << 20;
  uint64_t split_above = uint64_t{64} << 20;  ///< larger objects are moved in parts
  uint32_t parts_at_once = 4;              ///< of one object
  uint64_t record_above = uint64_t{1} << 20;   ///< smaller ones are fetched anew by another process
  uint64_t record_bytes = uint64_t{256} << 10; ///< of each part that may be fetched again after a kill
  int64_t connect_ms = 10'000;
  int64_t stall_ms = 60'000;               ///< without a byte
  Surroundings surroundings = ProcessSurroundings();
};

struct FetchSpec {
  std::string uri;
  std::string path;                        ///< written; made if missing, with mode 0600, or 0444 what is small
  std::optional<RemoteIdentity> expected;  ///< any other content is FailureKind::Changed
  /// What of it is there; kept by the caller, so that a later Fetch() goes on. May be null.
  std::shared_ptr<FetchedPart> part;
  /// Where that is kept on the disk (fetch_record.h), so that another process goes on; empty: nowhere. Used for what is above
  /// `TransferOptions::record_above`, whose content has a name. Stays when the file is whole, for the caller to remove.
  std::string record{};
};

struct Fetched {
  RemoteIdentity identity;
  uint64_t size = 0;
  std::string sha256;
};

struct PutSpec {
  std::string path;             ///< a regular file
  std::string text;             ///< sent instead if `path` is empty
  std::string uri;              ///< s3://
  std::string sha256;           ///< of the content if known: saves reading it once more, and is kept with the object
  bool create_only = false;     ///< an object that is there stays: success if it has the same sha256, else FailureKind::Exists
  /// Where an upload in parts is kept while it is under way, if `sha256` is given: one that a killed process left there is gone
  /// on with, or removed if it is one of another content. Empty: nowhere.
  std::string record{};
};

/// A part of what a bucket holds, by key in byte order.
struct ListPage {
  struct Object {
    std::string key;
    RemoteIdentity identity;  ///< without version: lists do not tell it
  };
  std::vector<Object> objects;
  bool more = false;          ///< after the last one
};

class Transfers {
 public:
  using Id = uint64_t;
  /// Error: libcurl is not there. `loop` must outlive it and run once more afterwards.
  static Result<std::unique_ptr<Transfers>> Create(uv_loop_t* loop, TransferOptions options);
  ~Transfers();

  /// What is there now, without reading it.
  Id Head(const std::string& uri, std::function<void(Outcome<RemoteIdentity>)> done);
  Id Fetch(FetchSpec spec, std::function<void(Outcome<Fetched>)> done);
  Id Put(PutSpec spec, std::function<void(Outcome<RemoteIdentity>)> done);
  /// At most 1,000 objects of `s3://BUCKET/PREFIX`, those whose keys come after `after`.
  Id List(const std::string& uri, const std::string& after, std::function<void(Outcome<ListPage>)> done);
  /// The content of a small object, at most `most` bytes.
  Id Read(const std::string& uri, uint64_t most, std::function<void(Outcome<std::string>)> done);
  /// Success if there is none.
  Id Delete(const std::string& uri, std::function<void(Outcome<bool>)> done);
  /// Nothing of it is called any more. What a Fetch() has stays on the disk.
  void Cancel(Id id);
  /// Bytes that came or went, without those of tries that were in vain.
  uint64_t Moved(Id id) const;

  struct Impl;

 private:
  explicit Transfers(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace jobc::storage

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

#include "storage/storage.h"
#include "support/result.h"

namespace jobc::storage {

struct TransferOptions {
  RetryPolicy retry;
  uint32_t parallel = 16;                  ///< requests at a time
  uint64_t part_bytes = uint64_t{16} << 20;
  uint64_t split_above = uint64_t{64} << 20;  ///< larger objects are moved in parts
  uint32_t parts_at_once = 4;              ///< of one object
  int64_t connect_ms = 10'000;
  int64_t stall_ms = 60'000;               ///< without a byte
  Surroundings surroundings = ProcessSurroundings();
};

/// How much of a file that is being fetched is there; kept by the caller, so that a later Fetch() goes on.
struct FetchedPart {
  RemoteIdentity identity;
  uint64_t bytes = 0;      ///< the first ones of the file are right
};

struct FetchSpec {
  std::string uri;
  std::string path;                        ///< written; made if missing, with mode 0600, or 0444 what is small
  std::optional<RemoteIdentity> expected;  ///< any other content is FailureKind::Changed
  std::shared_ptr<FetchedPart> part;       ///< may be null
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

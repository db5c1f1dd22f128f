// Which bytes of a remote file that is being fetched lie on the disk already, kept beside the file, so that another process goes
// on after one that was killed. Written after the bytes, so what it names is there; the page cache outlives a process, but not
// the machine: a record of before the machine was started anew counts for nothing. Used by transfer.cpp.
//
//   {"boot":"…","etag":"…","size":1073741824,"version":""}     what it is the content of
//   0 262144                                                   bytes from and to (exclusive), appended as they come
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "storage/storage.h"
#include "support/result.h"

namespace jobc::storage {

/// Bytes of a file, by number; those that touch are one range.
class ByteRanges {
 public:
  /// Bytes [from, to).
  void Add(uint64_t from, uint64_t to);
  /// How many there are from the first byte on.
  uint64_t First() const;
  uint64_t Sum() const;
  /// Behind the last one; 0: none.
  uint64_t End() const { return ranges_.empty() ? 0 : ranges_.rbegin()->second; }
  bool empty() const { return ranges_.empty(); }
  /// From, to.
  const std::map<uint64_t, uint64_t>& all() const { return ranges_; }
  friend bool operator==(const ByteRanges&, const ByteRanges&) = default;

 private:
  std::map<uint64_t, uint64_t> ranges_;
};

struct FetchedPart {
  RemoteIdentity identity;
  ByteRanges bytes;
};

class FetchRecord {
 public:
  FetchRecord() = default;
  ~FetchRecord();
  FetchRecord(const FetchRecord&) = delete;
  FetchRecord& operator=(const FetchRecord&) = delete;

  /// Nothing if there is none that counts.
  static std::optional<FetchedPart> Read(const std::string& path);
  /// Replaces the record by one of what is there now, and keeps it open for Add().
  Result<void> Begin(const std::string& path, const FetchedPart& part);
  /// A record that cannot be written is given up: without one the file is fetched anew.
  void Add(uint64_t from, uint64_t to);

 private:
  int fd_ = -1;
};

}  // namespace jobc::storage

// Archives as the Engine API carries files in and out of containers (PUT and GET /containers/ID/archive), for engines that do
// not see this machine's files: a maker that reads trees of this machine piece by piece, and a taker that writes what comes
// below one directory. Memory stays bounded whatever they hold. Both block on this machine's disk: they are for a thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/process/os.h"
#include "support/result.h"

namespace jobc::docker {

/// A file or directory, with everything in it, to be sent.
struct TarTree {
  std::string source;      ///< absolute, on this machine; not a link
  std::string name;        ///< in the archive: `stage/in/table/t.csv`
  bool read_only = false;  ///< nobody may write to the copy, and everybody may read it
  bool is_program = false; ///< everybody may execute it
};

/// POSIX archives (pax): names, links and sizes of any length.
class TarMaker {
 public:
  /// What is not read-only belongs to `uid` and `gid` there, all else to root. A tree may lie below an earlier one: it stands
  /// in place of what that has there. Sockets, pipes and devices are left out.
  TarMaker(std::vector<TarTree> trees, int64_t uid, int64_t gid);
  /// At most `size` bytes of it; 0: that was all. Error: a file cannot be read, or changed meanwhile; nothing comes after it.
  Result<size_t> Read(char* into, size_t size);

 private:
  struct Item {
    std::string source, name;
    bool read_only = false, is_program = false;
  };
  Result<void> Next(const Item& item);
  void AddHeader(std::string name, char type, uint64_t size, uint32_t mode, bool read_only, int64_t mtime, const std::string& link);

  std::deque<Item> todo_;
  std::set<std::string> elsewhere_;  ///< names at which other trees stand
  int64_t uid_, gid_;
  std::string ready_;                ///< headers and padding, not yet read
  size_t taken_ = 0;
  process::UniqueFd file_;
  std::string file_name_;
  uint64_t left_ = 0;                ///< bytes of the file
  uint64_t padding_ = 0;
  bool ended_ = false;
};

/// Writes an archive below a directory of this machine. Nothing of it gets anywhere else, whatever names and links it holds.
class TarTaker {
 public:
  /// Without the first part of all names, which is the directory that was asked for. `dir` exists.
  explicit TarTaker(std::string dir) : dir_(std::move(dir)) {}
  /// Only one plain file with this name is taken.
  TarTaker(std::string dir, std::string only) : dir_(std::move(dir)), only_(std::move(only)) {}
  /// Error: no such archive, or it cannot be written here, with `code`.
  Result<void> Feed(std::string_view bytes);
  /// All has come. Error: it is cut.
  Result<void> End();
  /// Of `only`.
  bool found() const { return found_; }

 private:
  Result<void> Header();
  Result<void> Begin(std::string name, char type, uint32_t mode, int64_t mtime, const std::string& link);
  Result<void> EndFile();
  /// The directory in which `name` lies, below `dir_`; no link is followed.
  Result<int> Parent(const std::string& name, std::string& last);

  std::string dir_, only_;
  process::UniqueFd root_, parent_;
  std::string parent_name_ = "?";
  std::string header_;                 ///< until it has 512 bytes
  uint64_t left_ = 0, padding_ = 0;
  enum class Into : uint8_t { Nothing, File, Pax, LongName, LongLink } into_ = Into::Nothing;
  std::string text_;                   ///< of Pax, LongName, LongLink
  std::string next_name_, next_link_;  ///< from them
  int64_t next_size_ = -1;
  process::UniqueFd file_;
  std::string file_name_;
  uint32_t file_mode_ = 0;
  int64_t file_mtime_ = 0;
  struct Directory {
    std::string name;
    uint32_t mode = 0;
  };
  std::vector<Directory> directories_;  ///< whose modes are set at the end
  bool ended_ = false, found_ = false;
};

}  // namespace jobc::docker

// The one writer for files that a person names (`-o FILE`, jobc.lock, sources that fmt and fix rewrite). A regular file
// is replaced whole or not at all: a reader, a full disk or a kill never leaves half of one. Whatever else is there
// stays what it is: a link is followed, and pipes, terminals and devices are written to. Keeps nothing.
#pragma once

#include <string>
#include <string_view>

#include "support/result.h"

namespace jobc {

/// Puts `text` where `path` leads to, through symbolic links, also through one whose target does not exist yet.
/// A regular file is replaced by renaming a temporary file of the same directory, on disk before that; it keeps its mode,
/// and its owner where that is allowed. One that this user may not write is refused, as by opening it. A new file gets
/// 0666 without the umask. The file that is standard output or standard error (`/dev/stdout` of a redirection) is
/// appended to where that stands. Anything else (FIFO, device, pipe) is opened and written to; a FIFO waits for its reader.
/// The error names `path` and the reason, its code is an errno value.
Result<void> WriteNamedFile(const std::string& path, std::string_view text);

}  // namespace jobc

// Paths of File and Dir values: from text as written to a normalised FileValue. Pure: nothing is looked up.
#pragma once

#include <string>
#include <string_view>

#include "ir/value.h"

namespace jobc::ir {

/// `text` relative to `directory` (itself relative to `base`; "" or "." is the base itself). A text that starts with `/`
/// becomes Absolute, one with gs:// s3:// http:// https:// becomes Uri and is kept as written. `.`, `..` and doubled
/// slashes are resolved; leading `..` stay. False with a reason for an empty text, a NUL byte or a missing name.
bool MakeFile(std::string_view text, FileBase base, std::string_view directory, bool is_dir, FileValue& out, std::string& why);
/// A file that is not read but made: `text` under `name`. False with a reason where no file can be named so.
bool MakeTextFile(std::string name, std::string text, FileValue& out, std::string& why);
/// Why no file can have this name: "" if one can. Not a path.
std::string FileNameFault(std::string_view name);
/// Whether a normalised path leads out of its base.
bool LeavesBase(std::string_view path);
bool IsUri(std::string_view text);
/// A relative path without `.`, doubled and trailing slashes; `..` resolved, leading ones stay.
std::string NormalPath(std::string_view path);
/// Whether the normalised `path` lies below the normalised `directory`.
bool IsInside(std::string_view path, std::string_view directory);

// Parts of a path; for a URI the part before the first name ("gs://bucket") is never cut.
std::string_view PathBasename(std::string_view path);
std::string PathDirname(std::string_view path);
std::string_view PathStem(std::string_view path);
std::string_view PathExtension(std::string_view path);

}  // namespace jobc::ir

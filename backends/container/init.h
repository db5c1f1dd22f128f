// The small init program that runs as the first process of an attempt in a container (init.c says what it does): its bytes,
// embedded in jobc; the file from which containers mount it; its command line; and what it reports. Used by the container
// backends; owns nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/attempt.h"
#include "runtime/backend.h"
#include "support/result.h"

namespace jobc::container {

/// Where the program is mounted, read-only, in every container.
inline constexpr std::string_view kInitTarget = "/jobc/init";
/// Name of its report, directly below AttemptPlaces::stage_dir.
inline constexpr std::string_view kEndName = "end";
/// By how much the limit inside of the container is above `timeout.run`, ms: while a jobc is there, it is the one that ends
/// the attempt and says why.
inline constexpr int64_t kLimitSlackMs = 2'000;

/// The program, an ELF file.
std::string_view InitProgram();

/// The program as a file below `state_dir`, for anyone to execute; written once for each content, whole or not at all.
/// Gives its absolute path.
Result<std::string> InstallInit(const std::string& state_dir);

/// `/jobc/init --limit … --grace … --end /jobc/stage/end -- argv…`: the whole command of a container. `argv` is not empty.
std::vector<std::string> InitCommand(const AttemptLaunch& launch, const std::vector<std::string>& argv);

/// What the program reports.
struct InitEnd {
  AttemptExit exit;         ///< exit code or signal, end and usage; neither of the first two if it never started
  int start_error = 0;      ///< errno: the program could not be started
  bool limit = false;       ///< the limit ended it
  int64_t started_ms = 0;   ///< wall clock
};

/// Nothing: it is no report.
std::optional<InitEnd> ParseInitEnd(std::string_view text);
/// The report of an attempt. Nothing: there is none, since the container was killed from outside, or never began.
std::optional<InitEnd> ReadInitEnd(const AttemptPlaces& places);

/// For `start_error`: kind `command`, with a message for people. `program` is the first word of the command, `where` what
/// it was looked for in (`the image debian:12`).
Verdict StartVerdict(int start_error, const std::string& program, const std::string& where);

}  // namespace jobc::container

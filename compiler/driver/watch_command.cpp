// `jobc watch` and `jobc attach`: a run that another jobc executes, shown as `jobc run` shows it, or as JSON events. What was
// journaled is read from the journal; the socket of the run says when to look, and tells what is not journaled.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <optional>
#include <utility>

#include "compiler/driver/run_display.h"
#include "compiler/driver/runs.h"
#include "ir/json.h"
#include "runtime/control.h"
#include "runtime/process/os.h"
#include "runtime/replay.h"
#include "support/exit_code.h"

namespace jobc {
namespace {

/// Without a socket the journal is looked at so often.
constexpr int kPollMs = 500;
constexpr int64_t kTickMs = 100;

/// Ctrl-C ends the watching, not the run; the cursor, which the display hides, comes back.
void OnInterrupt(int) {
  static constexpr char kText[] = "\x1b[?25h\r\nthe run goes on\r\n";
  [[maybe_unused]] ssize_t written = write(STDERR_FILENO, kText, sizeof kText - 1);
  _exit(kExitInterrupted);
}

void CatchInterrupts() {
  struct sigaction action = {};
  action.sa_handler = OnInterrupt;
  sigemptyset(&action.sa_mask);
  for (int signal : {SIGINT, SIGTERM, SIGHUP}) sigaction(signal, &action, nullptr);
}

/// An event that was told, as far as it matters here.
struct Told {
  int64_t record = 0;
  bool lost = false;
};

Told ReadTold(const std::string& line) {
  Told out;
  auto json = ir::ParseJson(line);
  if (!json.ok() || json->kind() != ir::ValueKind::Map) return out;
  if (const ir::Value* record = json->Find("record"); record != nullptr && record->kind() == ir::ValueKind::Int) out.record = record->as_int();
  if (const ir::Value* event = json->Find("event"); event != nullptr && event->kind() == ir::ValueKind::String) out.lost = event->as_string() == "lost";
  return out;
}

class Watcher {
 public:
  Watcher(RunReader& run, Terminal& terminal, bool json) : run_(run), terminal_(terminal), json_(json), display_(terminal, json, terminal.err_is_terminal()) {}

  /// Until the run ends or the reader of stdout goes away.
  Result<void> Watch() {
    int64_t next_draw = 0;
    // What was before: the journal from its start.
    if (auto done = Catch(); !done.ok()) return done;
    while (terminal_.out_open()) {
      if (!client_ && run_.summary().running) Connect();
      if (!run_.summary().running) break;
      bool changed = false;
      if (client_) {
        // All that is there already, then a look at the journal for all of it.
        int wait = static_cast<int>(std::clamp<int64_t>(next_draw - process::MonotonicMillis(), 1, kPollMs));
        for (int taken = 0; taken < 1000; ++taken) {
          Result<std::string> line = client_->Next(taken == 0 ? wait : 0);
          if (!line.ok()) {
            client_.reset();  // it ended or was killed: the journal says which
            changed = true;
            break;
          }
          if (line->empty()) break;
          changed = true;
          if (auto done = Tell(*line); !done.ok()) return done;
        }
      } else {
        usleep(kPollMs * 1000 / 5);
        changed = true;
      }
      const int64_t now = process::MonotonicMillis();
      // The end and a crash are seen in any case; without events only now and then.
      if (!changed && now < next_look_) continue;
      if (auto done = Catch(); !done.ok()) return done;
      next_look_ = process::MonotonicMillis() + kPollMs;
      if (display_.interval_ms != 0 && now >= next_draw) {
        display_.OnTick(run_.Progress());
        // Large runs are drawn less often: no more than a fifth of the time goes into it.
        const int64_t end = process::MonotonicMillis();
        next_draw = end + std::max(kTickMs, 4 * (end - now));
      }
    }
    return Catch();
  }

  void End() {
    if (ended_) display_.OnEvent(*std::exchange(ended_, std::nullopt));
    display_.End(run_.Progress());
  }

 private:
  void Connect() {
    Result<ControlClient> client = ControlClient::Connect(run_.run_dir());
    if (client.ok() && client->Watch().ok()) client_.emplace(std::move(*client));
  }

  /// One line of the socket. What the journal holds is shown from there, in its order, so that nothing is missing or doubled.
  Result<void> Tell(const std::string& line) {
    if (!json_) return {};
    Told told = ReadTold(line);
    if (told.record > run_.last_record() || told.lost) {
      if (auto done = Catch(); !done.ok()) return done;
    }
    if (told.record == 0) terminal_.Out(line + "\n");
    return {};
  }

  /// Shows what was journaled since.
  Result<void> Catch() {
    Result<void> done = run_.Refresh([&](const Record& record) {
      std::optional<RunEvent> event = EventOf(run_, record);
      if (!event) return;
      // The end of the run comes last: what is told meanwhile goes before it. A run that was gone on with has several.
      if (ended_) display_.OnEvent(*std::exchange(ended_, std::nullopt));
      if (json_ && event->kind == RunEventKind::RunFinished) {
        ended_ = std::move(event);
        return;
      }
      display_.OnEvent(*event);
      if (event->kind == RunEventKind::Failed && !json_) display_.OnFailure(ReportOf(run_, {static_cast<uint32_t>(record.job), record.ordinal < 0 ? kWholeJob : static_cast<uint32_t>(record.ordinal)}));
      display_.OnBatchEnd();
    });
    if (json_) terminal_.Flush();
    return done;
  }

  RunReader& run_;
  Terminal& terminal_;
  bool json_;
  RunDisplay display_;
  std::optional<ControlClient> client_;
  std::optional<RunEvent> ended_;  ///< not shown yet
  int64_t next_look_ = 0;
};

}  // namespace

int RunWatch(const Invocation& invocation, Terminal& terminal) {
  OpenedRun opened = OpenRun(invocation, invocation.arguments().empty() ? "" : invocation.arguments()[0], terminal);
  if (opened.reader == nullptr) return opened.exit_code;
  const std::string id = opened.reader->header().id;
  // A reader that has taken nothing in yet: its first look shows the run from the start.
  Result<std::unique_ptr<RunReader>> reader = RunReader::OpenUnread(opened.state_dir, id);
  if (!reader.ok()) return FailCommand(terminal, kExitEnvironment, reader.error().message);
  RunReader& run = **reader;
  if (terminal.err_is_terminal() && !invocation.json()) CatchInterrupts();
  Watcher watcher(run, terminal, invocation.json());
  if (Result<void> watched = watcher.Watch(); !watched.ok()) return FailCommand(terminal, kExitEnvironment, watched.error().message);
  if (run.summary().running) return kExitOk;  // nobody reads any more
  watcher.End();
  if (!run.summary().finished) {
    return FailCommand(terminal, kExitEnvironment, fmt::format("run {}: {}; go on with it by  jobc resume {}{}", id, run.summary().message, id, StateOption(opened.state_dir, WorkingDirectory())));
  }
  if (!invocation.json()) {
    if (run.summary().exit_code != kExitOk && !run.summary().message.empty()) terminal.Err(fmt::format("error: {}\n", run.summary().message));
    terminal.Err(fmt::format("results: jobc result {}{}\n", id, StateOption(opened.state_dir, WorkingDirectory())));
  }
  return run.summary().exit_code;
}

}  // namespace jobc

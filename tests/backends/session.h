// One jobc of the conformance suite: a loop, a log and a backend, and a record of every event, held against the order that
// runtime/backend.h promises the moment it comes.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/process/os.h"
#include "tests/backends/place.h"
#include "tests/engine/run_fixture_files.h"

namespace jobc::conformance {

/// All that was said of an attempt.
struct Seen {
  std::string events;           ///< "submitted started exited reaped", without what a backend need not say
  bool submitted = false, started = false, reaped = false, revoked = false;
  int64_t started_ms = 0, pid = 0;
  std::string handle;
  std::optional<AttemptExit> exit;
  std::optional<Verdict> failure;
  AttemptId next = 0;

  bool ended() const { return exit || failure; }
};

class Session : public BackendEvents {
 public:
  Session(Place& place, const std::string& run_dir, const std::string& run_id, const std::vector<std::string>& secrets = {}, bool secret_files = false,
          const std::vector<AttemptId>& again = {})
      : run_dir_(run_dir), masker_(secrets) {
    EXPECT_EQ(uv_loop_init(&loop_), 0);
    uv_timer_init(&loop_, &guard_);
    guard_.data = this;
    uv_unref(reinterpret_cast<uv_handle_t*>(&guard_));
    log_ = std::move(process::LogWriter::Open(run_dir, again).value());
    BackendHost host;
    host.loop = &loop_;
    host.events = this;
    host.log = log_.get();
    host.masker = &masker_;
    host.run_id = run_id;
    host.run_dir = run_dir;
    host.state_dir = run_dir + "/state";
    host.secret_files = secret_files;
    auto made = place.Make(host);
    EXPECT_TRUE(made.ok()) << made.error().message;
    backend_ = *std::move(made);
  }

  ~Session() override {
    backend_.reset();
    over_ = true;
    uv_close(reinterpret_cast<uv_handle_t*>(&guard_), nullptr);
    while (uv_run(&loop_, UV_RUN_DEFAULT) != 0) {
    }
    EXPECT_EQ(uv_loop_close(&loop_), 0) << "a backend has closed what it opened on the loop";
  }

  Backend& backend() { return *backend_; }
  Masker& masker() { return masker_; }
  process::LogWriter& log() { return *log_; }
  uint64_t now() { return uv_now(&loop_); }
  /// The backend is destroyed as it is.
  void Drop() { backend_.reset(); }

  /// Turns the loop until `done()`; a failure after a minute.
  void Until(const std::function<bool()>& done, const char* what = "it") {
    timed_out_ = false;
    deadline_ = uv_now(&loop_) + 60'000;
    uv_ref(reinterpret_cast<uv_handle_t*>(&guard_));
    // Also turns the loop where `done` looks at files, which do not wake it.
    uv_timer_start(&guard_, [](uv_timer_t* timer) {
      auto* session = static_cast<Session*>(timer->data);
      session->timed_out_ = uv_now(&session->loop_) > session->deadline_;
    }, 5, 5);
    while (!done() && !timed_out_) {
      uv_run(&loop_, UV_RUN_ONCE);
      log_->Flush();
    }
    uv_timer_stop(&guard_);
    uv_unref(reinterpret_cast<uv_handle_t*>(&guard_));
    ASSERT_FALSE(timed_out_) << what << " did not come to pass within a minute; so far: " << Story();
  }
  /// Turns the loop while that leads to anything, at least for `ms`: time in which nothing must happen.
  void Idle(uint64_t ms) {
    uv_timer_t pause;
    uv_timer_init(&loop_, &pause);
    bool over = false;
    pause.data = &over;
    uv_timer_start(&pause, [](uv_timer_t* timer) { *static_cast<bool*>(timer->data) = true; }, ms, 0);
    while (!over) {
      uv_run(&loop_, UV_RUN_ONCE);
    }
    uv_close(reinterpret_cast<uv_handle_t*>(&pause), nullptr);
    uv_run(&loop_, UV_RUN_NOWAIT);
  }
  const Seen& Finish(AttemptId id) {
    Until([&] { return seen[id].reaped || seen[id].revoked; }, "the end of an attempt");
    return seen[id];
  }

  /// Asks the backend for an attempt of an earlier jobc, and waits for its answer.
  AttachAnswer Attach(const AttemptLaunch& launch, const std::string& handle) {
    attaching_[launch.id] = true;
    expected_[launch.id] = false;
    backend_->Attach(launch, handle);
    Until([&] { return answers_.contains(launch.id); }, "the answer to Attach()");
    return answers_.contains(launch.id) ? answers_[launch.id] : AttachAnswer::Unknown;
  }

  /// What the log holds of a stream.
  std::string Text(AttemptId id, process::LogStream stream = process::LogStream::kStdout) {
    log_->Flush();
    std::string text;
    auto reader = process::LogReader::Open(run_dir_);
    EXPECT_TRUE(reader.ok());
    EXPECT_TRUE(reader->ForEach(id, stream, 0, [&](const process::LogReader::Chunk& chunk) {
      text.append(chunk.bytes);
      return true;
    }).ok());
    return text;
  }
  std::string Errors(AttemptId id) { return Text(id, process::LogStream::kStderr); }
  process::LogTotals Totals(AttemptId id) {
    log_->Flush();
    return process::LogReader::Open(run_dir_).value().Totals(id, process::LogStream::kStdout);
  }

  std::string Story() const {
    std::string out;
    for (const auto& [id, one] : seen) {
      out += std::to_string(id) + ": " + one.events + (one.failure ? " (" + one.failure->message + ")" : "") + "; ";
    }
    return out;
  }

  std::map<AttemptId, Seen> seen;
  std::vector<std::string> unavailable, notes, warnings;
  std::function<void(AttemptId)> on_submitted, on_started, on_ended, on_reaped;

  // -- BackendEvents -----------------------------------------------------------

  void OnSubmitted(AttemptId id, const std::string& handle) override {
    Seen& one = Known(id, "submitted");
    EXPECT_FALSE(one.submitted || one.started || one.ended() || one.reaped) << "OnSubmitted of " << id << " after: " << one.events;
    one.submitted = true;
    one.handle = handle;
    if (on_submitted) on_submitted(id);
  }
  void OnStarted(AttemptId id, int64_t wall_ms, int64_t pid, const std::string& handle) override {
    Seen& one = Known(id, "started");
    EXPECT_FALSE(one.started || one.ended() || one.reaped) << "OnStarted of " << id << " after: " << one.events;
    EXPECT_GT(wall_ms, 1'600'000'000'000) << "milliseconds since 1970";
    EXPECT_GE(pid, 0);
    one.started = true;
    one.started_ms = wall_ms;
    one.pid = pid;
    if (!one.handle.empty()) {
      EXPECT_EQ(handle, one.handle) << "the handle of OnSubmitted";
    }
    one.handle = handle;
    if (on_started) on_started(id);
  }
  void OnExited(AttemptId id, const AttemptExit& exit) override {
    Seen& one = Known(id, "exited");
    EXPECT_FALSE(one.ended() || one.reaped) << "OnExited of " << id << " after: " << one.events;
    EXPECT_TRUE(one.started) << "a program that has ended had started";
    EXPECT_NE(exit.exit_code.has_value(), exit.signal.has_value()) << "it ended either by itself or by a signal";
    // Two clocks may tell: that of the place and ours.
    EXPECT_GE(exit.wall_ms, one.started_ms - 1000);
    one.exit = exit;
    if (on_ended) on_ended(id);
  }
  void OnFailed(AttemptId id, Verdict verdict) override {
    Seen& one = Known(id, "failed");
    EXPECT_FALSE(one.ended() || one.reaped) << "OnFailed of " << id << " after: " << one.events;
    EXPECT_FALSE(verdict.success);
    EXPECT_FALSE(verdict.message.empty()) << "a failure says what happened";
    EXPECT_TRUE(verdict.message.empty() || (verdict.message.back() != '.' && verdict.message.back() != '\n')) << verdict.message;
    one.failure = std::move(verdict);
    if (on_ended) on_ended(id);
  }
  void OnReaped(AttemptId id, AttemptId next) override {
    Seen& one = Known(id, "reaped");
    EXPECT_TRUE(one.ended()) << "OnReaped of " << id << " before its end";
    EXPECT_FALSE(one.reaped) << "OnReaped of " << id << " twice";
    one.reaped = true;
    one.next = next;
    if (next != 0) {
      expected_[next] = true;
    }
    if (on_reaped) on_reaped(id);
  }
  void OnRevoked(AttemptId id) override {
    Seen& one = Known(id, "revoked");
    EXPECT_EQ(one.events, "revoked") << "nothing else is said of it";
    one.revoked = true;
  }
  void OnAttached(AttemptId id, AttachAnswer answer, const std::string& why) override {
    EXPECT_FALSE(over_);
    EXPECT_TRUE(attaching_[id]) << "OnAttached of " << id << ", which was not asked for, or twice";
    EXPECT_TRUE(answer != AttachAnswer::Unknown || !why.empty()) << "that a place cannot be asked is told to people";
    attaching_[id] = false;
    answers_[id] = answer;
    expected_[id] = answer == AttachAnswer::Found;
  }
  void OnFormerSecrets(AttemptId, const std::vector<std::string>& values) override { masker_.Add(values); }
  void OnNote(ir::BackendKind, std::string message) override { notes.push_back(std::move(message)); }
  void OnWarning(ir::BackendKind, std::string message) override { warnings.push_back(std::move(message)); }
  void OnUnavailable(ir::BackendKind, std::string message) override { unavailable.push_back(std::move(message)); }

  /// Events of `id` may come from now on.
  void Expect(AttemptId id) { expected_[id] = true; }
  /// No event of `id` may come any more.
  void Forget(AttemptId id) { expected_[id] = false; }
  /// No event at all may come any more.
  void ForgetAll() { over_ = true; }

 private:
  Seen& Known(AttemptId id, const char* event) {
    EXPECT_TRUE(expected_[id]) << event << " of " << id << ", of which nothing was to be heard";
    EXPECT_FALSE(over_) << event << " of " << id << " after Stop()";
    Seen& one = seen[id];
    EXPECT_FALSE(one.reaped) << event << " of " << id << " after: " << one.events;
    one.events += (one.events.empty() ? "" : " ") + std::string(event);
    return one;
  }

  std::string run_dir_;
  uv_loop_t loop_;
  uv_timer_t guard_;
  bool timed_out_ = false;
  uint64_t deadline_ = 0;
  bool over_ = false;
  Masker masker_;
  std::unique_ptr<process::LogWriter> log_;
  std::unique_ptr<Backend> backend_;
  std::map<AttemptId, bool> expected_, attaching_;
  std::map<AttemptId, AttachAnswer> answers_;
};

}  // namespace jobc::conformance

#include <fmt/format.h>
#include <re2/re2.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "compiler/check/check.h"
#include "compiler/diagnostics/render.h"
#include "compiler/driver/load.h"
#include "compiler/driver/report.h"
#include "compiler/driver/runs.h"
#include "compiler/lower/lower.h"
#include "ir/json.h"
#include "runtime/process/os.h"
#include "runtime/virtual_run.h"
#include "support/exit_code.h"

namespace jobc {
namespace {

namespace fs = std::filesystem;

/// Failures of tests are shown like faults of a file, but have no code: what is wrong is either of the two.
constexpr TypedKind<std::string_view> kFailed{{"", "TestFailed", Severity::Error, "{}"}};

struct TestResult {
  std::string file;
  std::string name;
  LineColumn at;
  bool passed = false;
  double seconds = 0;
  std::string text;   ///< of the failures, for people
  std::string json;   ///< of the failures: jobc.diagnostics/1
};

class PathsAsDeclared : public ir::EvalContext {
 public:
  bool FileText(const ir::FileValue& file, std::string& out, ir::Fault&) override {
    out = VirtualFileText(file);
    return true;
  }
};

std::string Words(const std::vector<std::string>& words) {
  std::string text = "[";
  for (const std::string& word : words) text += (text.size() > 1 ? ", " : "") + ir::JsonQuote(word);
  return text + "]";
}

bool IsNumber(const ir::Value& value) { return value.kind() == ir::ValueKind::Int || value.kind() == ir::ValueKind::Float; }

/// The first place where `found` is not as `expected`; of objects, only the listed keys count. Empty: there is none.
std::optional<std::string> Difference(const ir::Value& expected, const ir::Value& found, const std::string& pointer) {
  auto differs = [&]() -> std::optional<std::string> {
    return fmt::format("{}expected {}, found {}", pointer.empty() ? "" : "at " + pointer + ": ", ir::JsonText(expected), ir::JsonText(found));
  };
  if (IsNumber(expected) && IsNumber(found)) {
    const bool equal = expected.kind() == found.kind() ? expected == found : expected.as_float() == found.as_float();
    return equal ? std::nullopt : differs();
  }
  if (expected.kind() != found.kind()) return differs();
  if (expected.kind() == ir::ValueKind::Map) {
    for (const auto& [key, value] : expected.as_map()) {
      const ir::Value* other = found.Find(key.as_string());
      if (other == nullptr) return fmt::format("at {}/{}: expected {}, found nothing", pointer, key.as_string(), ir::JsonText(value));
      if (auto difference = Difference(value, *other, pointer + "/" + key.as_string())) return difference;
    }
    return std::nullopt;
  }
  if (expected.kind() == ir::ValueKind::List) {
    const ir::ListValue& a = expected.as_list();
    const ir::ListValue& b = found.as_list();
    if (a.size() != b.size()) return differs();
    for (size_t i = 0; i < a.size(); ++i) {
      if (auto difference = Difference(a[i], b[i], pointer + "/" + std::to_string(i))) return difference;
    }
    return std::nullopt;
  }
  return expected == found ? std::nullopt : differs();
}

/// One test on its own plan. Everything that is wrong goes into `failures`.
class TestRun {
 public:
  TestRun(const TestCase& test, ir::Plan plan, Roots roots, std::string scratch, Diagnostics& failures)
      : test_(test), plan_(std::move(plan)), roots_(std::move(roots)), scratch_(std::move(scratch)), failures_(failures) {}

  void Run() {
    for (const TestMock& mock : test_.mocks) {
      if (mock.skip && !SkipInstances(plan_, mock.job, mock.indices)) {
        Fail(mock.span, "an instance of a scatter without `key` cannot be skipped by its index").AddHelp("give the job a `key`, or skip all its instances");
      }
    }
    VirtualSetup setup;
    setup.plan = &plan_;
    setup.roots = roots_;
    setup.scratch = scratch_;
    setup.program = [this](const RunState& state, InstanceRef instance, uint32_t number) { return Program(state, instance, number); };
    // Only of the plan: then nothing has to be said about what jobs do.
    setup.plan_only = !test_.runs;
    for (const TestExpect& expect : test_.expects) {
      if (expect.kind == ExpectKind::Argv) setup.commands_of.push_back(expect.index);
    }
    outcome_ = RunVirtually(setup);
    if (test_.runs && !Sound()) return;
    for (const TestExpect& expect : test_.expects) Check(expect);
  }

 private:
  Diagnostic& Fail(Span span, const std::string& message) { return failures_.Emit(span, kFailed, message); }

  std::optional<VirtualProgram> Program(const RunState& state, InstanceRef instance, uint32_t number) {
    const TestMock* mock = nullptr;
    for (const TestMock& each : test_.mocks) {
      if (each.job != instance.job || each.skip) continue;
      if (!each.indices) {
        if (mock == nullptr) mock = &each;
      } else if (state.instances(instance.job).Find(*each.indices) == static_cast<int64_t>(instance.ordinal)) {
        mock = &each;
      }
    }
    const ir::Job& job = plan_.jobs[instance.job];
    VirtualProgram program;
    if (mock == nullptr) {
      program.outputs_are_free = true;
      if (job.kind == ir::JobKind::Finally || job.kind == ir::JobKind::Hook) return program;
      return std::nullopt;
    }
    used_[instance] = mock;
    program.takes_ms = mock->takes_ms;
    program.exit_code = mock->exit_code.value_or(0);
    program.stdout_text = mock->stdout_text;
    program.stderr_text = mock->stderr_text;
    program.result = mock->result;
    for (const MockFile& file : mock->files) program.files.push_back({file.output, file.path, file.content});
    const MockFailure* failure = nullptr;
    if (mock->always_fails && !mock->failures.empty()) failure = &mock->failures.front();
    if (!mock->always_fails && number <= mock->failures.size()) failure = &mock->failures[number - 1];
    if (failure == nullptr) return program;
    Verdict verdict = Failed(failure->kind, "the test says so");
    for (const ir::ErrorArm& arm : job.errors) {
      if (failure->name.empty() || arm.name != failure->name) continue;
      verdict.name = arm.name;
      verdict.title = arm.title;
      verdict.error_class = arm.error_class;
      break;
    }
    program.failure = std::move(verdict);
    return program;
  }

  /// What makes all expectations meaningless: jobs of which nothing is said, mocks that no program could be.
  bool Sound() {
    bool sound = true;
    std::string last;
    for (const std::string& address : outcome_.unanswered) {
      if (address == last) continue;
      last = address;
      Fail(test_.span, fmt::format("nothing says what `{}` does", address))
          .Label("tests start no processes")
          .AddHelp(fmt::format("add:  mock {} {{ result = {{ … }}, files {{ … }} }}", address));
      sound = false;
    }
    for (const auto& [instance, why] : outcome_.misfits) {
      auto used = used_.find(instance);
      Fail(used != used_.end() ? used->second->span : test_.span, fmt::format("the mock of `{}` leaves no outputs as declared: {}", outcome_.state->Address(instance), why))
          .Label("this mock");
      sound = false;
    }
    for (const TestMock& mock : test_.mocks) {
      if (!mock.indices || !outcome_.state->expanded(mock.job) || outcome_.state->instances(mock.job).Find(*mock.indices) >= 0) continue;
      NoInstance(mock.span, mock.job);
      sound = false;
    }
    return sound;
  }

  void NoInstance(Span span, uint32_t job) {
    auto& d = Fail(span, fmt::format("`{}` has no such instance", plan_.jobs[job].address));
    const ir::Instances& instances = outcome_.state->instances(job);
    std::string all;
    for (uint64_t i = 0; i < std::min<uint64_t>(instances.size(), 5); ++i) all += (i > 0 ? ", " : "") + instances.Address(i);
    d.Note(instances.size() == 0 ? "it has none" : fmt::format("it has {}{}", all, instances.size() > 5 ? ", …" : ""));
  }

  /// The instances that an expectation is about; nullopt after a failure was reported.
  std::optional<std::vector<InstanceRef>> About(const TestExpect& expect) {
    const uint32_t job = expect.index;
    if (!outcome_.state->expanded(job)) {
      if (expect.indices && !expect.indices->empty()) {
        Fail(expect.span, fmt::format("`{}` has no instances: what it goes over was never known", plan_.jobs[job].address));
        return std::nullopt;
      }
      return std::vector<InstanceRef>{{job, kWholeJob}};
    }
    const ir::Instances& instances = outcome_.state->instances(job);
    if (expect.indices && !plan_.jobs[job].domain.single()) {
      const int64_t found = instances.Find(*expect.indices);
      if (found < 0) {
        NoInstance(expect.span, job);
        return std::nullopt;
      }
      return std::vector<InstanceRef>{{job, static_cast<uint32_t>(found)}};
    }
    std::vector<InstanceRef> all;
    for (uint32_t i = 0; i < instances.size(); ++i) all.push_back({job, i});
    return all;
  }

  InstanceState State(InstanceRef instance) const {
    return instance.ordinal == kWholeJob ? outcome_.state->whole(instance.job) : outcome_.state->state(instance);
  }

  /// Why it is as it is, as a note.
  void Why(Diagnostic& d, InstanceRef instance) {
    const std::shared_ptr<const Verdict> verdict = outcome_.state->verdict(instance);
    if (verdict == nullptr || verdict->message.empty()) return;
    d.Note(verdict->success ? verdict->message : fmt::format("{}: {}", ErrorName(*verdict), verdict->message));
  }

  void Check(const TestExpect& expect) {
    switch (expect.kind) {
      case ExpectKind::Status: {
        const std::string_view found = RunStatusName(outcome_.end.status);
        if (found == expect.word) return;
        auto& d = Fail(expect.span, fmt::format("the run {}", found == "timed_out" ? "timed out" : found == "interrupted" ? "was interrupted" : found)).Label(fmt::format("expected {}, found {}", expect.word, found));
        if (!outcome_.end.message.empty()) d.Note(outcome_.end.message);
        return;
      }
      case ExpectKind::Export: return CheckExport(expect);
      case ExpectKind::State: return CheckState(expect);
      case ExpectKind::Attempts: return CheckAttempts(expect);
      case ExpectKind::Error:
      case ExpectKind::Message: return CheckError(expect);
      case ExpectKind::Outputs: return CheckOutputs(expect);
      case ExpectKind::Published: return CheckSet(expect, "what would be published is not as expected", outcome_.published);
      case ExpectKind::Instances: {
        std::vector<std::string> found;
        for (uint32_t j = 0; j < plan_.jobs.size(); ++j) {
          if (plan_.jobs[j].kind != ir::JobKind::Job || !outcome_.state->expanded(j)) continue;
          const ir::Instances& instances = outcome_.state->instances(j);
          for (uint64_t i = 0; i < instances.size(); ++i) found.push_back(instances.Address(i));
        }
        return CheckSet(expect, "the instances are not as expected", std::move(found));
      }
      case ExpectKind::Count: {
        const int64_t found = outcome_.state->expanded(expect.index) ? static_cast<int64_t>(outcome_.state->instances(expect.index).size()) : 0;
        if (found == expect.value.as_int()) return;
        Fail(expect.span, fmt::format("`{}` has {} instance{}", plan_.jobs[expect.index].address, found, found == 1 ? "" : "s"))
            .Label(fmt::format("expected {}, found {}", expect.value.as_int(), found));
        return;
      }
      case ExpectKind::Argv: return CheckArgv(expect);
      case ExpectKind::PlanError:
        Fail(expect.span, fmt::format("there is a plan, without an error {}", expect.word)).Label("expected this error");
        return;
    }
  }

  void CheckExport(const TestExpect& expect) {
    const ir::Export& declared = plan_.exports[expect.index];
    const VirtualExport& given = outcome_.exports[expect.index];
    PathsAsDeclared context;
    const auto expected = expect.value.is_null() ? Result<std::string>(std::string("null")) : ir::EncodeJson(expect.value, declared.type, plan_.program, context);
    const auto found = given.value.is_null() ? Result<std::string>(std::string("null")) : ir::EncodeJson(given.value, declared.type, plan_.program, context);
    if (expected.ok() && found.ok() && *expected == *found) return;
    auto& d = Fail(expect.span, fmt::format("the export `{}` is not as expected", declared.name))
                  .Label(fmt::format("expected {}, found {}", expected.ok() ? *expected : expected.error().message, found.ok() ? *found : found.error().message));
    if (!given.problem.empty()) d.Note(fmt::format("it has no value: {}", given.problem));
    if (!outcome_.end.message.empty()) d.Note(outcome_.end.message);
  }

  void CheckState(const TestExpect& expect) {
    const auto instances = About(expect);
    if (!instances) return;
    if (instances->empty()) {
      Fail(expect.span, fmt::format("`{}` has no instances", plan_.jobs[expect.index].address)).Label(fmt::format("expected {}", expect.word));
      return;
    }
    for (const InstanceRef instance : *instances) {
      const std::string_view found = StateName(State(instance));
      if (found == expect.word) continue;
      auto& d = Fail(expect.span, fmt::format("`{}` is {}", outcome_.state->Address(instance), found)).Label(fmt::format("expected {}, found {}", expect.word, found));
      Why(d, instance);
      return;
    }
  }

  void CheckAttempts(const TestExpect& expect) {
    const auto instances = About(expect);
    if (!instances || instances->empty() || instances->front().ordinal == kWholeJob) return;
    const InstanceRef instance = instances->front();
    const int64_t found = outcome_.state->attempts(instance);
    if (found == expect.value.as_int()) return;
    auto& d = Fail(expect.span, fmt::format("`{}` had {} attempt{}", outcome_.state->Address(instance), found, found == 1 ? "" : "s"))
                  .Label(fmt::format("expected {}, found {}", expect.value.as_int(), found));
    Why(d, instance);
  }

  void CheckError(const TestExpect& expect) {
    const auto instances = About(expect);
    if (!instances) return;
    for (const InstanceRef instance : *instances) {
      const std::shared_ptr<const Verdict> verdict = outcome_.state->verdict(instance);
      const std::string address = outcome_.state->Address(instance);
      if (verdict == nullptr || verdict->success) {
        Fail(expect.span, fmt::format("`{}` is {}, and nothing says why", address, StateName(State(instance)))).Label("expected a failure");
        return;
      }
      if (expect.kind == ExpectKind::Error) {
        if (ErrorName(*verdict) == expect.word) continue;
        auto& d = Fail(expect.span, fmt::format("`{}` failed otherwise", address)).Label(fmt::format("expected {}, found {}", expect.word, ErrorName(*verdict)));
        Why(d, instance);
        return;
      }
      if (verdict->message.find(expect.word) != std::string::npos || verdict->title.find(expect.word) != std::string::npos) continue;
      Fail(expect.span, fmt::format("the message of `{}` does not hold this text", address))
          .Label("expected this text")
          .Note(fmt::format("found: {}", verdict->message));
      return;
    }
  }

  void CheckOutputs(const TestExpect& expect) {
    const auto instances = About(expect);
    if (!instances || instances->empty()) return;
    const InstanceRef instance = instances->front();
    const std::string address = outcome_.state->Address(instance);
    if (State(instance) != InstanceState::Succeeded) {
      auto& d = Fail(expect.span, fmt::format("`{}` is {} and has no outputs", address, StateName(State(instance)))).Label("expected these outputs");
      Why(d, instance);
      return;
    }
    PathsAsDeclared context;
    ir::MapValue found;
    const ir::Job& job = plan_.jobs[expect.index];
    for (uint32_t i = 0; i < job.outputs.size(); ++i) {
      const ir::Value& value = outcome_.state->output(instance, i);
      auto json = value.is_null() ? Result<ir::Value>(ir::Value()) : ir::ToJsonValue(value, job.outputs[i].type, plan_.program, context);
      if (json.ok()) found.emplace_back(ir::Value::String(job.outputs[i].name), *json);
    }
    if (auto difference = Difference(expect.value, ir::Value::MapFrom(std::move(found)), "")) {
      Fail(expect.span, fmt::format("the outputs of `{}` are not as expected", address)).Label(*difference);
    }
  }

  void CheckSet(const TestExpect& expect, const std::string& message, std::vector<std::string> found) {
    std::vector<std::string> expected = expect.words;
    std::sort(expected.begin(), expected.end());
    std::sort(found.begin(), found.end());
    if (expected == found) return;
    auto& d = Fail(expect.span, message).Label(fmt::format("found {}", Words(found)));
    std::vector<std::string> only;
    std::set_difference(expected.begin(), expected.end(), found.begin(), found.end(), std::back_inserter(only));
    if (!only.empty()) d.Note("missing: " + Words(only));
    only.clear();
    std::set_difference(found.begin(), found.end(), expected.begin(), expected.end(), std::back_inserter(only));
    if (!only.empty()) d.Note("not expected: " + Words(only));
  }

  void CheckArgv(const TestExpect& expect) {
    const auto instances = About(expect);
    if (!instances || instances->empty()) return;
    const InstanceRef instance = instances->front();
    const std::string address = outcome_.state->Address(instance);
    auto found = outcome_.argv.find(instance);
    if (found == outcome_.argv.end() && !test_.runs) {
      Fail(expect.span, fmt::format("the command of `{}` is not known before the run", address))
          .Label("expected this command")
          .AddHelp("its command needs what other jobs give: add mocks of them");
      return;
    }
    if (found == outcome_.argv.end()) {
      auto& d = Fail(expect.span, fmt::format("`{}` was never started: it is {}", address, StateName(State(instance)))).Label("expected this command");
      Why(d, instance);
      return;
    }
    if (found->second == expect.words) return;
    size_t at = 0;
    while (at < expect.words.size() && at < found->second.size() && expect.words[at] == found->second[at]) ++at;
    auto word = [&](const std::vector<std::string>& words) { return at < words.size() ? ir::JsonQuote(words[at]) : std::string("no more words"); };
    Fail(expect.span, fmt::format("the command of `{}` is not as expected", address))
        .Label(fmt::format("word {}: expected {}, found {}", at + 1, word(expect.words), word(found->second)))
        .Note(fmt::format("found {}", Words(found->second)));
  }

  const TestCase& test_;
  ir::Plan plan_;
  Roots roots_;
  std::string scratch_;
  Diagnostics& failures_;
  VirtualOutcome outcome_;
  std::map<InstanceRef, const TestMock*> used_;
};

std::string XmlText(std::string_view text) {
  std::string out;
  for (const char ch : text) {
    switch (ch) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      default:
        // Other control characters have no form in XML 1.0.
        if (static_cast<unsigned char>(ch) >= 0x20 || ch == '\n' || ch == '\t') out += ch;
    }
  }
  return out;
}

std::string JUnit(const std::vector<TestResult>& results) {
  std::string out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n";
  for (size_t begin = 0; begin < results.size();) {
    size_t end = begin, failures = 0;
    double seconds = 0;
    for (; end < results.size() && results[end].file == results[begin].file; ++end) {
      failures += results[end].passed ? 0 : 1;
      seconds += results[end].seconds;
    }
    out += fmt::format("  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" time=\"{:.3f}\">\n", XmlText(results[begin].file), end - begin, failures, seconds);
    for (; begin < end; ++begin) {
      const TestResult& one = results[begin];
      out += fmt::format("    <testcase classname=\"{}\" name=\"{}\" file=\"{}\" line=\"{}\" time=\"{:.3f}\"", XmlText(one.file), XmlText(one.name), XmlText(one.file), one.at.line, one.seconds);
      out += one.passed ? "/>\n" : fmt::format(">\n      <failure message=\"not as expected\">{}</failure>\n    </testcase>\n", XmlText(one.text));
    }
    out += "  </testsuite>\n";
  }
  return out + "</testsuites>\n";
}

/// The sources to look for tests in: as named, those of named directories, and `x_test.job` beside a named `x.job`.
std::vector<std::string> TestFiles(const std::vector<std::string>& arguments) {
  std::vector<std::string> files;
  auto add = [&](const std::string& file) {
    if (std::find(files.begin(), files.end(), file) == files.end()) files.push_back(file);
  };
  for (const std::string& argument : arguments) {
    std::error_code error;
    if (fs::is_directory(argument, error)) {
      std::vector<std::string> found;
      fs::recursive_directory_iterator it(argument, fs::directory_options::skip_permission_denied, error), end;
      for (; !error && it != end; it.increment(error)) {
        if (it->path().filename().string().starts_with('.')) {
          if (it->is_directory(error)) it.disable_recursion_pending();
          continue;
        }
        if (it->path().extension() == ".job" && it->is_regular_file(error)) found.push_back(it->path().lexically_normal().string());
      }
      std::sort(found.begin(), found.end());
      for (const std::string& file : found) add(file);
      continue;
    }
    add(argument);
    if (!argument.ends_with(".job") || argument.ends_with("_test.job")) continue;
    const std::string tests = argument.substr(0, argument.size() - 4) + "_test.job";
    if (fs::exists(tests, error)) add(tests);
  }
  return files;
}

/// Runs one test on a plan of its own.
TestResult RunOne(const std::string& file, size_t index, Terminal& terminal) {
  TestResult result;
  result.file = file;
  const auto begin = std::chrono::steady_clock::now();
  SourceManager sources;
  Diagnostics diags, failures;
  LoadedRoot root = LoadRoot(file, sources);
  if (root.error) {   // gone since it was looked at
    result.text = root.error->message + "\n";
    return result;
  }
  Model model = Check(*root.source, sources, diags);
  std::vector<TestCase> tests = std::move(model.tests);
  model.tests.clear();
  JOBC_CHECK(index < tests.size());
  const TestCase& test = tests[index];
  result.name = test.name;
  result.at = sources.Locate(test.span.source, test.span.begin);
  const TestExpect* plan_error = nullptr;
  for (const TestExpect& expect : test.expects) {
    if (expect.kind == ExpectKind::PlanError) plan_error = &expect;
  }
  LowerOptions options;
  options.profile = test.profile.value_or("");
  options.values = test.params;
  options.missing_files_are_empty = true;
  const std::string root_directory = sources[model.root].directory;
  diags.Clear();
  std::optional<ir::Plan> plan = Lower(std::move(model), options, sources, diags);
  TextOptions text;
  text.summary = false;
  text.color = terminal.err_color();
  if (const int width = terminal.width(); width > 0) text.width = width;
  if (!plan) {
    bool as_expected = false;
    std::string codes;
    for (const Diagnostic& each : diags.all()) {
      if (each.kind->severity != Severity::Error) continue;
      as_expected = as_expected || (plan_error != nullptr && each.kind->code == plan_error->word);
      codes += (codes.empty() ? "" : ", ") + std::string(each.kind->code);
    }
    if (!as_expected) {
      failures.Emit(plan_error != nullptr ? plan_error->span : test.span, kFailed, "there is no plan with these parameters")
          .Label(plan_error != nullptr ? fmt::format("expected {}, found {}", plan_error->word, codes) : fmt::format("because of {}", codes));
      diags.Sort();
      result.text = RenderText(diags, sources, text);
    }
  } else {
    std::string scratch = (fs::temp_directory_path() / "jobc-test-XXXXXX").string();
    if (mkdtemp(scratch.data()) == nullptr) {
      failures.Emit(test.span, kFailed, fmt::format("cannot make a scratch directory in `{}`", fs::temp_directory_path().string()));
    } else {
      std::error_code error;
      Roots roots;
      roots.cwd = WorkingDirectory();
      roots.root = root_directory.empty() ? roots.cwd : fs::absolute(root_directory, error).lexically_normal().string();
      TestRun(test, std::move(*plan), roots, scratch, failures).Run();
      (void)process::RemoveTree(scratch).ok();
    }
  }
  failures.Sort();
  result.passed = !failures.has_errors();
  if (!result.passed) result.text = RenderText(failures, sources, text) + (result.text.empty() ? "" : "\n" + result.text);
  result.json = RenderJson(failures, sources);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

}  // namespace

int RunTest(const Invocation& invocation, Terminal& terminal) {
  auto usage = [&](UsageError error) {
    terminal.Err(RenderUsageError(error, terminal.err_color()));
    return kExitUsage;
  };
  const std::string filter(invocation.ValueOr("--filter", ""));
  RE2::Options quiet;
  quiet.set_log_errors(false);
  const RE2 pattern(filter, quiet);
  if (!pattern.ok()) return usage({fmt::format("`--filter {}` is no regular expression: {}", filter, pattern.error()), {}});
  const bool all = invocation.arguments().empty();
  const std::vector<std::string> files = TestFiles(all ? FilesIn(".", ".job") : invocation.arguments());
  struct Found {
    std::string file;
    size_t index;
  };
  std::vector<Found> found;
  size_t declared = 0;
  int code = kExitOk;
  SourceManager sources;
  Diagnostics faults;
  for (const std::string& file : files) {
    Diagnostics diags;
    LoadedRoot root = LoadRoot(file, sources);
    if (root.error) return usage(*root.error);
    const Model model = Check(*root.source, sources, diags);
    if (diags.has_errors()) {
      // Nothing of a file with errors is run; the others are. A test file and the file it is about have the same faults.
      (void)Check(*root.source, sources, faults);
      continue;
    }
    for (size_t i = 0; i < model.tests.size(); ++i) {
      // Of a test file and the file it is about, each runs its own.
      if (model.tests[i].span.source != *root.source) continue;
      ++declared;
      if (RE2::PartialMatch(model.tests[i].name, pattern)) found.push_back({file, i});
    }
  }
  if (faults.has_errors()) code = ReportDiagnostics(invocation, terminal, sources, faults);
  if (found.empty()) {
    if (code != kExitOk) return code;
    if (declared > 0) return usage({fmt::format("no test has a name that matches `{}`", filter), {"leave out `--filter` to run all"}});
    return usage({all ? "there is no test in the .job files of the working directory" : "there is no test in these files",
                  {"write one into a file such as `name_test.job`:  test \"what it shows\" { mock … expect … }"}});
  }
  std::vector<TestResult> results;
  size_t failed = 0;
  std::string last_file;
  for (const Found& one : found) {
    results.push_back(RunOne(one.file, one.index, terminal));
    const TestResult& result = results.back();
    failed += result.passed ? 0 : 1;
    if (invocation.json()) continue;
    if (result.file != last_file) terminal.Err(fmt::format("{}{}\n", last_file.empty() ? "" : "\n", result.file));
    last_file = result.file;
    terminal.Err(fmt::format("  {}  {}\n", result.passed ? "ok    " : "FAILED", result.name));
    if (!result.passed) terminal.Err("\n" + result.text + "\n");
  }
  if (const std::string junit(invocation.ValueOr("--junit", "")); !junit.empty()) {
    std::ofstream out(junit, std::ios::binary | std::ios::trunc);
    out << JUnit(results);
    out.close();
    if (!out) {
      terminal.Err(fmt::format("error: cannot write `{}`\n", junit));
      return kExitEnvironment;
    }
  }
  if (invocation.json()) {
    nlohmann::ordered_json json;
    json["schema"] = "jobc.tests/1";
    json["tests"] = nlohmann::ordered_json::array();
    for (const TestResult& result : results) {
      nlohmann::ordered_json one = {{"file", result.file}, {"line", result.at.line}, {"name", result.name}, {"passed", result.passed}};
      if (!result.passed) one["failures"] = nlohmann::ordered_json::parse(result.json, nullptr, false)["diagnostics"];
      json["tests"].push_back(std::move(one));
    }
    json["summary"] = {{"passed", results.size() - failed}, {"failed", failed}};
    terminal.Out(json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
  } else {
    terminal.Err(fmt::format("\n{} passed{}\n", results.size() - failed, failed > 0 ? fmt::format(", {} failed", failed) : ""));
  }
  if (code != kExitOk) return code;
  return failed > 0 ? kExitJobFailed : kExitOk;
}

}  // namespace jobc

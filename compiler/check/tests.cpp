// `test "…" { … }` into Model::tests: that what it names exists, and that every value has the type of what it stands for.
// Tests are run elsewhere; a misspelt job would make one that can never pass, and a mock that no program could have been
// would make one that proves nothing, so both are told here, with everything else that is wrong with the file.
#include <algorithm>
#include <charconv>
#include <fmt/format.h>

#include "compiler/check/declarations.h"
#include "ir/json.h"

namespace jobc::check {
namespace {

using Words = std::vector<std::string_view>;

const Words& StateWords() {
  static const Words words = {"succeeded", "failed", "skipped", "blocked", "cancelled"};
  return words;
}

const Words& StatusWords() {
  static const Words words = {"succeeded", "failed", "interrupted", "timed_out"};
  return words;
}

class TestChecker {
 public:
  /// `unit`: whose names the tests see; the root's own, or those of a test file about it.
  TestChecker(Checker& checker, Unit& unit)
      : c_(checker), root_(*checker.units.front()), unit_(unit), file_(*unit.file),
        // A test file of which the tested file could not be read: that has been told.
        sound_(!checker.diags.has_errors()),
        names_known_(!(checker.jobs.empty() && checker.sources[file_.source].name.ends_with("_test.job"))) {}

  void Check(const ast::Item& test) {
    if (test.labels.size() != 1 || !test.labels.front().is_string || test.labels.front().text.empty()) {
      c_.diags.Emit(test.keyword, diag::MissingAttribute, "`test`", "a name").Label("write `test \"what it shows\" { … }`");
    } else {
      const ast::Label& label = test.labels.front();
      for (const ast::Label* earlier : tests_) {
        if (earlier->text != label.text) continue;
        c_.diags.Emit(label.span, diag::DeclaredTwice, label.text).Label("second test of this name").Secondary(earlier->span, "the first one").AddHelp("give one of them another name");
      }
      tests_.push_back(&label);
    }
    mocks_.clear();
    given_.clear();
    test_ = {};
    expects_nothing_ = true;
    if (!test.labels.empty()) {
      test_.name = test.labels.front().text;
      test_.span = test.labels.front().span;
    }
    std::vector<const ast::Item*> seen;
    for (const ast::ItemId* id = file_.begin(test.children); id != file_.end(test.children); ++id) {
      const ast::Item& item = file_[*id];
      if (item.kind == ast::ItemKind::Error || !Known(item, kTest)) {
        expects_nothing_ = false;
        continue;
      }
      const std::string_view word = item.name.text;
      if (word == "params" || word == "profile") Once(item, seen);
      if (word == "params") Params(item);
      if (word == "profile") ProfileName(item);
      if (word == "mock") Mock(item);
      if (word == "expect") Expect(item);
    }
    if (!names_known_) return;
    if (test_.expects.empty() && expects_nothing_) {
      c_.diags.Emit(test.keyword, diag::MissingAttribute, "a test", "something to expect")
          .Label("can never fail")
          .AddHelp("add:  expect { status = succeeded }");
    }
    c_.model.tests.push_back(std::move(test_));
    for (const ParamInfo& info : c_.params) {
      if (info.unit != &root_) continue;
      const ast::Item& param = (*root_.file)[info.item];
      if (param.value.valid() || std::find(given_.begin(), given_.end(), param.name.text) != given_.end()) continue;
      if (info.type.valid() && c_.types.IsOptional(info.type)) continue;
      c_.diags.Emit(test.keyword, diag::MissingArgument, param.name.text)
          .Label("tests without it")
          .Secondary(param.name.span, "declared here")
          .AddHelp(fmt::format("add to the test:  params {{ {} = … }}", param.name.text));
    }
  }

 private:
  /// Whether an item may stand in `block`, in its form.
  bool Known(const ast::Item& item, uint32_t block) {
    if (item.kind != ast::ItemKind::Attr && item.kind != ast::ItemKind::Block) {
      c_.diags.Emit(item.keyword, diag::MisplacedItem, "this item", BlockTitle(block)).Label("cannot stand here");
      return false;
    }
    const Attribute* found = FindAttribute(item.name.text, block);
    if (found == nullptr) {
      auto& d = c_.diags.Emit(item.keyword, diag::UnknownAttribute, BlockTitle(block), item.name.text).Label("unknown");
      std::string_view like = DidYouMean(item.name.text, AttributeNames(block));
      if (!like.empty()) d.AddHelp(fmt::format("did you mean `{}`?", like), {{item.keyword, std::string(like)}});
      return false;
    }
    const bool wants_block = found->shape == Shape::Block;
    if (wants_block != (item.kind == ast::ItemKind::Block)) {
      c_.diags.Emit(item.keyword, diag::WrongShape, item.name.text, wants_block ? fmt::format("{} {{ … }}", item.name.text) : fmt::format("{} = …", item.name.text))
          .Label(wants_block ? "this is a block" : "this is set");
      return false;
    }
    return true;
  }

  void Once(const ast::Item& item, std::vector<const ast::Item*>& seen) {
    for (const ast::Item* earlier : seen) {
      if (earlier->name.text == item.name.text) c_.diags.Emit(item.keyword, diag::SetTwice, item.name.text).Label("set again").Secondary(earlier->keyword, "first set here").AddHelp("keep one of them");
    }
    seen.push_back(&item);
  }

  Scope Constant(std::string_view place) {
    Scope scope;
    scope.unit = &unit_;
    scope.latest = Phase::C;
    scope.place = place;
    return scope;
  }

  void Params(const ast::Item& block) {
    Words names;
    for (const auto& entry : root_.params) names.push_back({entry.first().data(), entry.first().size()});
    std::vector<const ast::Item*> seen;
    for (const ast::ItemId* id = file_.begin(block.children); id != file_.end(block.children); ++id) {
      const ast::Item& item = file_[*id];
      if (item.kind == ast::ItemKind::Error) continue;
      if (item.kind != ast::ItemKind::Attr) {
        c_.diags.Emit(item.keyword, diag::MisplacedItem, "this item", "`params` of a test").Label("expected name = value");
        continue;
      }
      Once(item, seen);
      given_.push_back(item.name.text);
      auto found = root_.params.find(llvm::StringRef(item.name.text.data(), item.name.text.size()));
      if (found != root_.params.end()) {
        const ParamInfo& param = c_.ResolveParam(found->second.index);
        if (std::optional<ir::Value> value = ConstantOf(item.value, "a parameter of a test", param.type)) {
          test_.params.emplace_back(param.root_index, std::move(*value));
        }
        continue;
      }
      if (!names_known_) continue;
      auto& d = c_.diags.Emit(item.name.span, diag::UnknownParam, "this file", item.name.text).Label("not declared");
      std::string_view like = DidYouMean(item.name.text, names);
      if (!like.empty()) d.AddHelp(fmt::format("did you mean `{}`?", like), {{item.name.span, std::string(like)}});
    }
  }

  void ProfileName(const ast::Item& item) {
    if (!item.value.valid() || file_[item.value].kind == ast::ExprKind::Error || !names_known_) return;
    const ast::Expr& value = file_[item.value];
    std::string name = value.kind == ast::ExprKind::Name ? std::string(value.name.text) : PlainText(file_, item.value).value_or("");
    if (name.empty()) {
      c_.diags.Emit(value.span, diag::NotA, "the name of a profile", "another expression").Label("which profile?");
      return;
    }
    test_.profile = name;
    if (name == "none") return;
    Words names;
    for (const Profile& profile : c_.model.profiles) {
      names.push_back(profile.name);
      if (profile.name == name) return;
    }
    auto& d = c_.diags.Emit(value.span, diag::UnknownProfile, name).Label("not declared");
    std::string_view like = DidYouMean(name, names);
    if (!like.empty()) d.AddHelp(fmt::format("did you mean `{}`?", like), {{value.span, std::string(like)}});
  }

  /// The value of an expression that must be a constant of `type`; nullopt after a reported fault.
  std::optional<ir::Value> ConstantOf(ast::ExprId expr, std::string_view place, ir::TypeId type) {
    if (!expr.valid()) return std::nullopt;
    const Typed typed = c_.CheckExpr(expr, Constant(place), type);
    return c_.Constant(typed, file_[expr].span);
  }

  std::vector<std::string> ConstantWords(ast::ExprId expr, std::string_view place) {
    std::vector<std::string> words;
    if (auto value = ConstantOf(expr, place, c_.types.List(c_.types.Basic(ir::TypeKind::String)))) {
      for (const ir::Value& word : value->as_list()) words.push_back(word.as_string());
    }
    return words;
  }

  /// The job that `align["s1"]` stands for, its indices checked against key and axes.
  const JobInfo* Target(const ast::Label* label, Span where, bool whole, std::optional<ir::ListValue>* indices = nullptr) {
    if (label == nullptr || label->is_string || label->path.empty()) {
      c_.diags.Emit(label != nullptr ? label->span : where, diag::NotA, "a job such as `align[\"s1\"]`", "something else").Label("which instance?");
      return nullptr;
    }
    if (!names_known_) return nullptr;
    std::string address;
    for (const ast::Name& part : label->path) address += (address.empty() ? "" : "/") + std::string(part.text);
    Words names;
    for (const JobInfo& job : c_.jobs) {
      if (job.kind == ir::JobKind::Hook) continue;
      names.push_back(job.address);
      if (job.address != address) continue;
      const uint32_t given = static_cast<uint32_t>(label->index.size());
      if (given != job.dimensions() && !(whole && given == 0)) {
        c_.diags.Emit(label->span, diag::IndexCount, address, fmt::format("{} {}", job.dimensions(), job.dimensions() == 1 ? "index" : "indices"), std::to_string(given))
            .Label(given == 0 ? "which instance?" : "wrong number of indices")
            .Secondary(job.name.span, "declared here");
        return &job;
      }
      ir::ListValue values;
      for (uint32_t k = 0; k < given; ++k) {
        const ir::TypeId type = job.has_for ? (k == 0 ? job.key_type : job.axes[k - 1].type) : job.axes[k].type;
        if (auto value = ConstantOf(label->index[k], "the index of a test", type)) values.push_back(std::move(*value));
      }
      if (indices != nullptr && values.size() == given && (given > 0 || job.dimensions() == 0)) *indices = std::move(values);
      return &job;
    }
    auto& d = c_.diags.Emit(label->span, diag::UnknownJob, address).Label("not declared");
    std::string_view like = DidYouMean(address, names);
    if (!like.empty()) d.AddHelp(fmt::format("did you mean `{}`?", like));
    return nullptr;
  }

  void Mock(const ast::Item& mock) {
    const ast::Label* label = mock.labels.empty() ? nullptr : &mock.labels.front();
    TestMock out;
    const JobInfo* job = Target(label, mock.keyword, true, &out.indices);
    if (label != nullptr) {
      out.span = label->span;
      const std::string_view text = c_.sources.Text(label->span);
      for (Span earlier : mocks_) {
        if (c_.sources.Text(earlier) == text) c_.diags.Emit(label->span, diag::SetTwice, fmt::format("mock {}", text)).Label("mocked again").Secondary(earlier, "first mocked here").AddHelp("keep one of them");
      }
      mocks_.push_back(label->span);
    }
    if (job != nullptr && job->kind == ir::JobKind::Check) {
      c_.diags.Emit(label->span, diag::NotA, "a job", "a check").Label("checks are evaluated, never mocked").AddHelp("mock the results that it looks at");
    }
    const size_t errors = c_.diags.error_count();
    const ast::Item* skip = nullptr;
    const ast::Item* fail = nullptr;
    const ast::Item* ends = nullptr;     // result, files, exit, stdout
    const ast::Item* result = nullptr;
    bool unread = false;                 // an item that could not be read, and has been told: it may say how this ends
    std::vector<const ast::Item*> seen;
    auto conflict = [&](const ast::Item& item, const ast::Item& other) {
      c_.diags.Emit(item.keyword, diag::TwoActions, other.name.text, item.name.text).Label("an instance ends in one way").Secondary(other.keyword, "already said here").AddHelp("keep one of the two");
    };
    for (const ast::ItemId* id = file_.begin(mock.children); id != file_.end(mock.children); ++id) {
      const ast::Item& item = file_[*id];
      if (item.kind == ast::ItemKind::Error || !Known(item, kMock)) {
        unread = true;
        continue;
      }
      Once(item, seen);
      const std::string_view word = item.name.text;
      if (word == "takes") {
        if (auto value = ConstantOf(item.value, "`takes`", c_.types.Basic(ir::TypeKind::Duration))) out.takes_ms = std::max<int64_t>(0, value->as_int());
        continue;
      }
      if (word == "skip") {
        if (ends != nullptr || fail != nullptr) conflict(item, ends != nullptr ? *ends : *fail);
        skip = &item;
        out.skip = true;
        if (auto value = ConstantOf(item.value, "`skip`", c_.types.Basic(ir::TypeKind::Bool))) out.skip = value->as_bool();
        continue;
      }
      if (skip != nullptr) conflict(item, *skip);
      if (word == "fail") {
        fail = &item;
        Fail(item, job, out);
      } else {
        ends = &item;
      }
      // A list of failures is over some day; after `fail = oom` nothing else can happen.
      if (fail != nullptr && out.always_fails && ends != nullptr && (word == "result" || word == "files" || word == "exit" || word == "fail")) {
        conflict(item, fail == &item ? *ends : *fail);
      }
      if (word == "result" && item.value.valid()) {
        result = &item;
        out.result = Json(item.value, "`result`");
        if (out.result && out.result->kind() != ir::ValueKind::Map) {
          c_.diags.Emit(file_[item.value].span, diag::NotA, "an object such as { rows = 3 }", "something else").Label("the root of a result is an object");
          out.result.reset();
        }
      }
      if (word == "exit" && item.value.valid()) {
        ir::Refinement byte;
        byte.kind = ir::RefinementKind::IntRange;
        byte.int_low = 0;
        byte.int_high = 255;
        byte.text = "0..255";
        const ir::TypeId type = c_.types.Refined(c_.types.Basic(ir::TypeKind::Int), c_.types.AddRefinement(std::move(byte)));
        if (auto value = ConstantOf(item.value, "`exit`", type)) out.exit_code = static_cast<int>(value->as_int());
      }
      if (word == "stdout" || word == "stderr") {
        auto value = ConstantOf(item.value, word == "stdout" ? "`stdout`" : "`stderr`", c_.types.Basic(ir::TypeKind::String));
        if (value) (word == "stdout" ? out.stdout_text : out.stderr_text) = value->as_string();
      }
      if (word == "files") Files(item, job, out);
    }
    if (skip == nullptr && fail == nullptr && ends == nullptr && !unread) {
      c_.diags.Emit(mock.keyword, diag::MissingAttribute, "`mock`", "an outcome")
          .Label("how does it end?")
          .AddHelp("write `result = { … }`, `files { … }`, `fail = oom` or `skip`; `exit = 0` for a job without outputs");
    }
    if (job == nullptr) return;
    if (skip != nullptr && out.skip && !job->nullable) {
      c_.diags.Emit(skip->keyword, diag::NotA, "a job that can be skipped", fmt::format("`{}`", job->name.text))
          .Label("it has no `when`")
          .Secondary(job->name.span, "always runs");
    }
    out.job = job->index;
    // What could not be read may have been what is missing.
    if (sound_ && c_.diags.error_count() == errors && !out.skip && !out.always_fails && out.exit_code.value_or(0) == 0) Fits(mock, *job, out, result);
    test_.mocks.push_back(std::move(out));
  }

  /// A success that no program could have had: a result that does not fit the declared outputs, a file that is missing.
  void Fits(const ast::Item& mock, const JobInfo& job, const TestMock& mocked, const ast::Item* result) {
    const Span where = mock.labels.empty() ? mock.keyword : mock.labels.front().span;
    std::string missing_keys, missing_files;
    for (const ir::Output& output : c_.model.plan.jobs[job.index].outputs) {
      const bool optional = c_.types.IsOptional(c_.types.Bare(output.type));
      if (output.kind == ir::OutputKind::Json) {
        const ir::Value* value = mocked.result ? mocked.result->Find(output.name) : nullptr;
        if (value == nullptr) {
          if (optional || output.fallback.valid()) continue;
          missing_keys += (missing_keys.empty() ? "" : ", ") + output.name + " = …";
          continue;
        }
        ir::EvalContext context;
        Result<ir::Value> decoded = ir::DecodeJson(*value, output.type, c_.evaluator, context, {ir::FileBase::Job});
        if (decoded.ok()) continue;
        std::string why = decoded.error().message;
        std::string pointer = "/" + output.name;
        if (!why.empty() && why[0] == '/') {
          const size_t end = std::min(why.find(": "), why.size());
          pointer += why.substr(0, end);
          why = why.substr(std::min(end + 2, why.size()));
        } else if (why.starts_with(": ")) {
          why = why.substr(2);
        }
        c_.diags.Emit(At(result->value, pointer), diag::MockDoesNotFit, fmt::format("{}: {}", output.name, c_.types.Show(output.type)), why)
            .Label(pointer)
            .Secondary(OutputSpan(job, output.name), "declared here");
        continue;
      }
      if (output.kind != ir::OutputKind::Path || optional) continue;
      bool given = false;
      const bool constant = c_.exprs.IsConst(output.value);
      for (const MockFile& file : mocked.files) {
        given = given || file.output == static_cast<uint32_t>(&output - c_.model.plan.jobs[job.index].outputs.data());
        // What a path with the values of an instance in it names is known when the instance runs.
        if (file.output == UINT32_MAX && !constant) given = true;
        if (file.output == UINT32_MAX && constant) {
          const std::string& path = c_.exprs.ConstValue(output.value).as_string();
          given = given || file.path == path || file.path.starts_with(path + "/");
        }
      }
      if (given) continue;
      const bool directory = c_.types.kind(c_.types.NonNull(c_.types.Bare(output.type))) == ir::TypeKind::Dir;
      missing_files += fmt::format("{}{} = \"\"", missing_files.empty() ? "" : ", ",
                                   directory ? fmt::format("\"{}/file\"", constant ? c_.exprs.ConstValue(output.value).as_string() : std::string(output.name)) : output.name);
    }
    if (!missing_keys.empty()) {
      c_.diags.Emit(where, diag::MissingAttribute, "the mock", fmt::format("a result with `{}`", missing_keys))
          .Label("the job declares these outputs")
          .AddHelp(fmt::format("add:  result = {{ {} }}", missing_keys));
    }
    if (!missing_files.empty()) {
      c_.diags.Emit(where, diag::MissingAttribute, "the mock", "the files that the job declares")
          .Label("without them the job would fail with `output_missing`")
          .AddHelp(fmt::format("add:  files {{ {} }}", missing_files));
    }
  }

  static Span OutputSpan(const JobInfo& job, std::string_view name) {
    for (const OutputInfo& output : job.outputs) {
      if (output.name == name) return output.span;
    }
    return {};
  }

  /// The smallest expression of a written document that `pointer` leads to.
  Span At(ast::ExprId document, std::string_view pointer) {
    ast::ExprId at = document;
    while (!pointer.empty()) {
      const ast::Expr& e = file_[at];
      const size_t end = std::min(pointer.find('/', 1), pointer.size());
      const std::string_view key = pointer.substr(1, end - 1);
      pointer.remove_prefix(end);
      ast::ExprId next;
      for (uint32_t i = 0; i < e.entries.size && (e.kind == ast::ExprKind::Map || e.kind == ast::ExprKind::List); ++i) {
        const ast::Entry& entry = file_.entries[e.entries.begin + i];
        if (e.kind == ast::ExprKind::Map ? PlainText(file_, entry.key) == key : std::to_string(i) == key) next = entry.value;
      }
      if (!next.valid()) break;
      at = next;
    }
    return file_[at].span;
  }

  /// A JSON document: unlike in expressions, the values of an object may have different types. Always checks all of it.
  std::optional<ir::Value> Json(ast::ExprId id, std::string_view place) {
    if (!id.valid()) return std::nullopt;
    const ast::Expr& e = file_[id];
    if (e.kind == ast::ExprKind::Null) return ir::Value();
    if (e.kind != ast::ExprKind::Map && e.kind != ast::ExprKind::List) {
      const Typed typed = c_.CheckExpr(id, Constant(place));
      std::optional<ir::Value> value = c_.Constant(typed, e.span);
      if (!value) return std::nullopt;
      class Paths : public ir::EvalContext {
        bool FileText(const ir::FileValue& file, std::string& out, ir::Fault&) override {
          out = file.path;
          return true;
        }
      } context;
      Result<ir::Value> json = ir::ToJsonValue(*value, typed.type, c_.program, context);
      if (json.ok()) return *json;
      c_.diags.Emit(e.span, diag::NotA, "a JSON value", fmt::format("`{}`", c_.types.Show(typed.type))).Label(json.error().message);
      return std::nullopt;
    }
    bool sound = true;
    ir::ListValue list;
    ir::MapValue map;
    for (uint32_t i = 0; i < e.entries.size; ++i) {
      const ast::Entry& entry = file_.entries[e.entries.begin + i];
      std::optional<ir::Value> value = Json(entry.value, place);
      sound = sound && value && !entry.splice;
      if (!sound) continue;
      if (e.kind == ast::ExprKind::List) {
        list.push_back(std::move(*value));
        continue;
      }
      std::optional<std::string> key = PlainText(file_, entry.key);
      if (!key) {
        if (entry.key.valid() && file_[entry.key].kind != ast::ExprKind::Error) c_.diags.Emit(file_[entry.key].span, diag::NotA, "a name or a plain string", "another expression").Label("the key of a JSON object");
        sound = false;
        continue;
      }
      map.emplace_back(ir::Value::String(std::move(*key)), std::move(*value));
    }
    if (!sound) return std::nullopt;
    return e.kind == ast::ExprKind::List ? ir::Value::List(std::move(list)) : ir::Value::MapFrom(std::move(map));
  }

  void Fail(const ast::Item& item, const JobInfo* job, TestMock& out) {
    if (!item.value.valid()) return;
    const ast::Expr& value = file_[item.value];
    if (value.kind != ast::ExprKind::List) {
      out.always_fails = true;
      if (auto failure = Failure(item.value, job)) out.failures.push_back(std::move(*failure));
      return;
    }
    for (uint32_t i = 0; i < value.entries.size; ++i) {
      if (auto failure = Failure(file_.entries[value.entries.begin + i].value, job)) out.failures.push_back(std::move(*failure));
    }
  }

  std::optional<MockFailure> Failure(ast::ExprId expr, const JobInfo* job) {
    if (!expr.valid()) return std::nullopt;
    MockFailure failure;
    if (std::optional<std::string> name = PlainText(file_, expr)) {
      failure.name = *name;
      if (job == nullptr) return failure;
      Words names;
      for (const ir::ErrorArm& arm : c_.model.plan.jobs[job->index].errors) {
        if (arm.name == *name) {
          failure.kind = arm.kind;
          return failure;
        }
        if (!arm.name.empty()) names.push_back(arm.name);
      }
      auto& d = c_.diags.Emit(file_[expr].span, diag::UnknownError, *name).Label(fmt::format("no arm of `errors` of `{}` gives this name", job->name.text));
      std::string_view like = DidYouMean(*name, names);
      if (!like.empty()) d.AddHelp(fmt::format("did you mean \"{}\"?", like));
      return std::nullopt;
    }
    Words words;
    for (int i = 0; i < ir::kErrorKinds; ++i) words.push_back(ir::KindName(static_cast<ir::ErrorKind>(i)));
    std::optional<size_t> word = c_.CheckWord(expr, Constant("`fail`"), words, "an error kind");
    if (!word) return std::nullopt;
    failure.kind = static_cast<ir::ErrorKind>(*word);
    return failure;
  }

  void Files(const ast::Item& block, const JobInfo* job, TestMock& out) {
    std::vector<const ast::Item*> seen;
    for (const ast::ItemId* id = file_.begin(block.children); id != file_.end(block.children); ++id) {
      const ast::Item& item = file_[*id];
      if (item.kind == ast::ItemKind::Error) continue;
      if (item.kind != ast::ItemKind::Attr) {
        c_.diags.Emit(item.keyword, diag::MisplacedItem, "this item", "`files`").Label("expected output = \"its content\"");
        continue;
      }
      MockFile file;
      if (auto value = ConstantOf(item.value, "`files`", c_.types.Basic(ir::TypeKind::String))) file.content = value->as_string();
      if (item.name_expr.valid()) {
        std::optional<std::string> path = PlainText(file_, item.name_expr);
        const Span span = file_[item.name_expr].span;
        std::string why;
        if (!path) why = "is no plain string";
        else if (path->empty()) why = "is empty";
        else if ((*path)[0] == '/') why = "is absolute";
        else if (("/" + *path + "/").find("/../") != std::string::npos || path->back() == '/') why = "names no file of the job's directory";
        if (!why.empty()) {
          c_.diags.Emit(span, diag::PathEscapes, path.value_or("…"), why).Label("a path below $JOB_OUTPUT");
          continue;
        }
        file.path = *path;
        out.files.push_back(std::move(file));
        continue;
      }
      Once(item, seen);
      if (job == nullptr) continue;
      Words names;
      bool found = false;
      for (uint32_t i = 0; i < job->outputs.size(); ++i) {
        const OutputInfo& output = job->outputs[i];
        if (output.kind != ir::OutputKind::Path && output.kind != ir::OutputKind::Glob) continue;
        names.push_back(output.name);
        if (output.name != item.name.text) continue;
        found = true;
        const bool one_file = output.kind == ir::OutputKind::Path && c_.types.kind(c_.types.NonNull(c_.types.Bare(output.type))) == ir::TypeKind::File;
        if (!one_file) {
          c_.diags.Emit(item.name.span, diag::NotA, "one file", fmt::format("`{}`", c_.types.Show(output.type)))
              .Label("has many files")
              .Secondary(output.span, "declared here")
              .AddHelp("say the path of each:  files { \"part-1.csv\" = \"…\", \"part-2.csv\" = \"…\" }");
        }
        file.output = i;
      }
      if (found) {
        out.files.push_back(std::move(file));
        continue;
      }
      auto& d = c_.diags.Emit(item.name.span, diag::UnknownMember, fmt::format("`{}`", job->name.text), item.name.text).Label("not a captured file of this job");
      std::string_view like = DidYouMean(item.name.text, names);
      if (!like.empty()) d.AddHelp(fmt::format("did you mean `{}`?", like), {{item.name.span, std::string(like)}});
    }
  }

  void Expect(const ast::Item& block) {
    bool plan = false;
    for (const ast::Label& label : block.labels) {
      plan = !label.is_string && label.path.size() == 1 && label.path[0].text == "plan";
      if (plan && block.labels.size() == 1) continue;
      c_.diags.Emit(label.span, diag::MisplacedItem, fmt::format("`{}`", c_.sources.Text(label.span)), "the head of `expect`").Label("write `expect { … }` or `expect plan { … }`");
      return;
    }
    for (const ast::ItemId* id = file_.begin(block.children); id != file_.end(block.children); ++id) {
      const ast::Item& item = file_[*id];
      if (item.kind == ast::ItemKind::Error || !Known(item, plan ? kExpectPlan : kExpect) || !item.value.valid()) {
        expects_nothing_ = false;
        continue;
      }
      ExpectItem(item, plan);
    }
  }

  void ExpectItem(const ast::Item& item, bool plan) {
    const std::string_view word = item.name.text;
    const ast::Label* label = item.labels.empty() ? nullptr : &item.labels.front();
    TestExpect out;
    out.span = file_[item.value].span;
    expects_nothing_ = false;
    const JobInfo* job = nullptr;
    auto about = [&](ExpectKind kind, bool whole) {
      out.kind = kind;
      job = Target(label, item.keyword, whole, &out.indices);
      if (job != nullptr) out.index = job->index;
      return job != nullptr;
    };
    auto word_of = [&](const Words& words, std::string_view place, std::string_view what) {
      if (auto index = c_.CheckWord(item.value, Constant(place), words, what)) out.word = std::string(words[*index]);
    };
    auto number = [&](std::string_view place) {
      if (auto value = ConstantOf(item.value, place, c_.types.Basic(ir::TypeKind::Int))) out.value = std::move(*value);
    };
    auto text = [&](std::string_view place) {
      if (auto value = ConstantOf(item.value, place, c_.types.Basic(ir::TypeKind::String))) out.word = value->as_string();
    };
    if (word == "instances") {
      out.kind = ExpectKind::Instances;
      out.words = ConstantWords(item.value, "`instances`");
    } else if (word == "status") {
      out.kind = ExpectKind::Status;
      word_of(StatusWords(), "`status`", "a run status");
    } else if (word == "published") {
      out.kind = ExpectKind::Published;
      out.words = ConstantWords(item.value, "`published`");
    } else if (word == "argv") {
      if (about(ExpectKind::Argv, false)) out.words = ConstantWords(item.value, "`argv`");
    } else if (word == "count") {
      if (about(ExpectKind::Count, true)) number("`count`");
    } else if (word == "attempts") {
      if (about(ExpectKind::Attempts, false)) number("`attempts`");
    } else if (word == "state") {
      if (about(ExpectKind::State, true)) word_of(StateWords(), "`state`", "a final state");
    } else if (word == "message") {
      if (about(ExpectKind::Message, true)) text("`message`");
    } else if (word == "error" && plan) {
      out.kind = ExpectKind::PlanError;
      text("`error`");
    } else if (word == "error") {
      if (about(ExpectKind::Error, true)) {
        if (auto failure = Failure(item.value, job)) out.word = failure->name.empty() ? std::string(ir::KindName(failure->kind)) : failure->name;
      }
    } else if (word == "outputs") {
      if (about(ExpectKind::Outputs, false)) Outputs(item, *job, out);
    } else if (word == "export") {
      Export(item, label, out);
    }
    test_.runs = test_.runs || !plan;
    test_.expects.push_back(std::move(out));
  }

  /// `outputs align["a"] = { rows = 3 }`: of the declared types, as far as they are listed.
  void Outputs(const ast::Item& item, const JobInfo& job, TestExpect& out) {
    const ast::Expr& document = file_[item.value];
    if (document.kind != ast::ExprKind::Map) {
      if (document.kind != ast::ExprKind::Error) c_.diags.Emit(document.span, diag::NotA, "an object such as { rows = 3 }", "another expression").Label("outputs by their names");
      return;
    }
    Words names;
    for (const OutputInfo& output : job.outputs) names.push_back(output.name);
    for (uint32_t i = 0; i < document.entries.size; ++i) {
      const ast::Entry& entry = file_.entries[document.entries.begin + i];
      std::optional<std::string> key = PlainText(file_, entry.key);
      if (!key || std::find(names.begin(), names.end(), *key) != names.end()) continue;
      auto& d = c_.diags.Emit(file_[entry.key].span, diag::UnknownMember, fmt::format("`{}`", job.name.text), *key).Label("no such output");
      std::string_view like = DidYouMean(*key, names);
      if (!like.empty()) d.AddHelp(fmt::format("did you mean `{}`?", like));
    }
    if (auto value = Json(item.value, "`outputs`")) out.value = std::move(*value);
  }

  void Export(const ast::Item& item, const ast::Label* label, TestExpect& out) {
    out.kind = ExpectKind::Export;
    if (label == nullptr || label->is_string || label->path.size() != 1) {
      c_.diags.Emit(item.keyword, diag::MissingAttribute, "`export`", "a name").Label("write `export NAME = value`");
      return;
    }
    Words names;
    for (uint32_t i = 0; i < c_.model.plan.exports.size(); ++i) {
      const ir::Export& entry = c_.model.plan.exports[i];
      names.push_back(entry.name);
      if (entry.name != label->path[0].text) continue;
      out.index = i;
      // Null is what the export of something that failed is, whatever its type.
      if (file_[item.value].kind == ast::ExprKind::Null) return;
      if (auto value = ConstantOf(item.value, "the value of an export", entry.type)) out.value = std::move(*value);
      return;
    }
    if (!names_known_) return;
    auto& d = c_.diags.Emit(label->span, diag::UnknownMember, "`export`", label->path[0].text).Label("not exported");
    std::string_view like = DidYouMean(label->path[0].text, names);
    if (!like.empty()) d.AddHelp(fmt::format("did you mean `{}`?", like), {{label->span, std::string(like)}});
  }

  Checker& c_;
  Unit& root_;
  Unit& unit_;
  const ast::File& file_;
  const bool sound_;              ///< the rest of the file: the types of outputs are known
  const bool names_known_;
  std::vector<const ast::Label*> tests_;
  std::vector<Span> mocks_;
  std::vector<std::string_view> given_;
  TestCase test_;
  bool expects_nothing_ = true;   ///< of the test; also false where what it expects could not be read
};

}  // namespace

void CheckTests(Checker& c) {
  const size_t files = c.model.files.size();
  auto check = [&](Unit& unit) {
    const std::vector<ast::ItemId>& blocks = c.declarations->unit_blocks[unit.index].tests;
    if (blocks.empty()) return;
    TestChecker tests(c, unit);
    for (ast::ItemId id : blocks) tests.Check((*unit.file)[id]);
  };
  check(*c.units.front());
  if (c.declarations->test_unit != nullptr) check(*c.declarations->test_unit);
  // Files of parameters of tests need not exist: not even for the tests, and never for a plan.
  c.model.files.resize(files);
  for (TestCase& test : c.model.tests) test.runs = test.runs || !test.mocks.empty();
}

}  // namespace jobc::check

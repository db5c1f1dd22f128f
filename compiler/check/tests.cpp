// `test "…" { … }`: its shape, and that what it names exists. Tests are run elsewhere; a misspelt job would make one that
// can never pass, so it is told here, with everything else that is wrong with the file.
#include <algorithm>
#include <fmt/format.h>

#include "compiler/check/declarations.h"

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
  explicit TestChecker(Checker& checker)
      : c_(checker), unit_(*checker.units.front()), file_(*unit_.file),
        // A test file without jobs of its own is about the file it is named after: its names are looked up there.
        names_known_(!(checker.jobs.empty() && checker.sources[file_.source].name.ends_with("_test.job"))) {}

  void Check(const ast::Item& test) {
    if (test.labels.size() != 1 || !test.labels.front().is_string || test.labels.front().text.empty()) {
      c_.diags.Emit(test.keyword, diag::MissingAttribute, "`test`", "a name").Label("write `test \"what it shows\" { … }`");
    } else {
      const ast::Label& label = test.labels.front();
      for (const ast::Label* earlier : tests_) {
        if (earlier->text != label.text) continue;
        c_.diags.Emit(label.span, diag::DeclaredTwice, label.text).Label("second test of this name").Secondary(earlier->span, "the first one");
      }
      tests_.push_back(&label);
    }
    mocks_.clear();
    given_.clear();
    std::vector<const ast::Item*> seen;
    for (const ast::ItemId* id = file_.begin(test.children); id != file_.end(test.children); ++id) {
      const ast::Item& item = file_[*id];
      if (item.kind == ast::ItemKind::Error || !Known(item, kTest)) continue;
      const std::string_view word = item.name.text;
      if (word == "params" || word == "profile") Once(item, seen);
      if (word == "params") Params(item);
      if (word == "profile") ProfileName(item);
      if (word == "mock") Mock(item);
      if (word == "expect") Expect(item);
    }
    if (!names_known_) return;
    for (const ParamInfo& info : c_.params) {
      if (info.unit != &unit_) continue;
      const ast::Item& param = file_[info.item];
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
      if (earlier->name.text == item.name.text) c_.diags.Emit(item.keyword, diag::SetTwice, item.name.text).Label("set again").Secondary(earlier->keyword, "first set here");
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
    for (const auto& entry : unit_.params) names.push_back({entry.first().data(), entry.first().size()});
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
      auto found = unit_.params.find(llvm::StringRef(item.name.text.data(), item.name.text.size()));
      if (found != unit_.params.end()) {
        if (item.value.valid()) c_.CheckExpr(item.value, Constant("a parameter of a test"), c_.ResolveParam(found->second.index).type);
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

  /// The job that `align["s1"]` stands for, its indices checked against key and axes.
  const JobInfo* Target(const ast::Label* label, Span where, bool whole) {
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
      for (uint32_t k = 0; k < given; ++k) {
        const ir::TypeId type = job.has_for ? (k == 0 ? job.key_type : job.axes[k - 1].type) : job.axes[k].type;
        if (label->index[k].valid()) c_.CheckExpr(label->index[k], Constant("the index of a test"), type);
      }
      return &job;
    }
    auto& d = c_.diags.Emit(label->span, diag::UnknownJob, address).Label("not declared");
    std::string_view like = DidYouMean(address, names);
    if (!like.empty()) d.AddHelp(fmt::format("did you mean `{}`?", like));
    return nullptr;
  }

  void Mock(const ast::Item& mock) {
    const ast::Label* label = mock.labels.empty() ? nullptr : &mock.labels.front();
    const JobInfo* job = Target(label, mock.keyword, true);
    if (label != nullptr) {
      const std::string_view text = c_.sources.Text(label->span);
      for (Span earlier : mocks_) {
        if (c_.sources.Text(earlier) == text) c_.diags.Emit(label->span, diag::SetTwice, fmt::format("mock {}", text)).Label("mocked again").Secondary(earlier, "first mocked here");
      }
      mocks_.push_back(label->span);
    }
    if (job != nullptr && job->kind == ir::JobKind::Check) {
      c_.diags.Emit(label->span, diag::NotA, "a job", "a check").Label("checks are evaluated, never mocked").AddHelp("mock the results that it looks at");
    }
    const ast::Item* outcome = nullptr;
    std::vector<const ast::Item*> seen;
    for (const ast::ItemId* id = file_.begin(mock.children); id != file_.end(mock.children); ++id) {
      const ast::Item& item = file_[*id];
      if (item.kind == ast::ItemKind::Error || !Known(item, kMock)) continue;
      Once(item, seen);
      const std::string_view word = item.name.text;
      const bool success = word == "result" || word == "files";
      if (outcome != nullptr && outcome->name.text != word && !(success && (outcome->name.text == "result" || outcome->name.text == "files"))) {
        c_.diags.Emit(item.keyword, diag::TwoActions, outcome->name.text, word).Label("an instance ends in one way").Secondary(outcome->keyword, "already said here");
      }
      outcome = &item;
      if (word == "fail") Fail(item, job);
      if (word == "skip" && item.value.valid()) c_.CheckExpr(item.value, Constant("`skip`"), c_.types.Basic(ir::TypeKind::Bool));
      if (word == "result" && item.value.valid()) Json(item.value);
      if (word == "files") Files(item, job);
    }
    if (outcome == nullptr) c_.diags.Emit(mock.keyword, diag::MissingAttribute, "`mock`", "an outcome").Label("how does it end?").AddHelp("write `result = { … }`, `files { … }`, `fail = oom` or `skip`");
  }

  /// A JSON document: unlike in expressions, the values of an object may have different types.
  void Json(ast::ExprId id) {
    if (!id.valid()) return;
    const ast::Expr& e = file_[id];
    if (e.kind != ast::ExprKind::Map && e.kind != ast::ExprKind::List) {
      if (e.kind != ast::ExprKind::Null) c_.CheckExpr(id, Constant("`result`"));
      return;
    }
    for (uint32_t i = 0; i < e.entries.size; ++i) Json(file_.entries[e.entries.begin + i].value);
  }

  void Fail(const ast::Item& item, const JobInfo* job) {
    if (!item.value.valid()) return;
    if (std::optional<std::string> name = PlainText(file_, item.value)) {
      if (job == nullptr) return;
      Words names;
      for (const ir::ErrorArm& arm : c_.model.plan.jobs[job->index].errors) {
        if (arm.name == *name) return;
        if (!arm.name.empty()) names.push_back(arm.name);
      }
      auto& d = c_.diags.Emit(file_[item.value].span, diag::UnknownError, *name).Label(fmt::format("no arm of `errors` of `{}` gives this name", job->name.text));
      std::string_view like = DidYouMean(*name, names);
      if (!like.empty()) d.AddHelp(fmt::format("did you mean \"{}\"?", like));
      return;
    }
    Words words;
    for (int i = 0; i < ir::kErrorKinds; ++i) words.push_back(ir::KindName(static_cast<ir::ErrorKind>(i)));
    c_.CheckWord(item.value, Constant("`fail`"), words, "an error kind");
  }

  void Files(const ast::Item& block, const JobInfo* job) {
    std::vector<const ast::Item*> seen;
    for (const ast::ItemId* id = file_.begin(block.children); id != file_.end(block.children); ++id) {
      const ast::Item& item = file_[*id];
      if (item.kind == ast::ItemKind::Error) continue;
      if (item.kind != ast::ItemKind::Attr || !item.name.valid()) {
        c_.diags.Emit(item.keyword, diag::MisplacedItem, "this item", "`files`").Label("expected output = \"its content\"");
        continue;
      }
      Once(item, seen);
      if (item.value.valid()) c_.CheckExpr(item.value, Constant("`files`"), c_.types.Basic(ir::TypeKind::String));
      if (job == nullptr) continue;
      Words names;
      bool found = false;
      for (const OutputInfo& output : job->outputs) {
        if (output.kind != ir::OutputKind::Path && output.kind != ir::OutputKind::Glob) continue;
        names.push_back(output.name);
        found = found || output.name == item.name.text;
      }
      if (found) continue;
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
      if (item.kind == ast::ItemKind::Error || !Known(item, plan ? kExpectPlan : kExpect) || !item.value.valid()) continue;
      const std::string_view word = item.name.text;
      const ast::Label* label = item.labels.empty() ? nullptr : &item.labels.front();
      const ir::TypeId strings = c_.types.List(c_.types.Basic(ir::TypeKind::String));
      if (word == "instances") c_.CheckExpr(item.value, Constant("`instances`"), strings);
      if (word == "status") c_.CheckWord(item.value, Constant("`status`"), StatusWords(), "a run status");
      if (word == "argv" && Target(label, item.keyword, false) != nullptr) c_.CheckExpr(item.value, Constant("`argv`"), strings);
      if (word == "state" && Target(label, item.keyword, false) != nullptr) c_.CheckWord(item.value, Constant("`state`"), StateWords(), "a final state");
      if (word == "export") Export(item, label);
    }
  }

  void Export(const ast::Item& item, const ast::Label* label) {
    if (label == nullptr || label->is_string || label->path.size() != 1) {
      c_.diags.Emit(item.keyword, diag::MissingAttribute, "`export`", "a name").Label("write `export NAME = value`");
      return;
    }
    Words names;
    for (const ir::Export& entry : c_.model.plan.exports) {
      names.push_back(entry.name);
      if (entry.name != label->path[0].text) continue;
      c_.CheckExpr(item.value, Constant("the value of an export"), entry.type);
      return;
    }
    if (!names_known_) return;
    auto& d = c_.diags.Emit(label->span, diag::UnknownMember, "`export`", label->path[0].text).Label("not exported");
    std::string_view like = DidYouMean(label->path[0].text, names);
    if (!like.empty()) d.AddHelp(fmt::format("did you mean `{}`?", like), {{label->span, std::string(like)}});
  }

  Checker& c_;
  Unit& unit_;
  const ast::File& file_;
  const bool names_known_;
  std::vector<const ast::Label*> tests_;
  std::vector<Span> mocks_;
  std::vector<std::string_view> given_;
};

}  // namespace

void CheckTests(Checker& c) {
  if (c.declarations->unit_blocks.front().tests.empty()) return;
  TestChecker tests(c);
  for (ast::ItemId id : c.declarations->unit_blocks.front().tests) tests.Check((*c.units.front()->file)[id]);
}

}  // namespace jobc::check
